//! What a running server and client have in common: local ports and orderly shutdown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::StartError;
use super::core::Core;
use super::renewal::{OnNewCertificate, Renewal};
use super::view::View;
use crate::config::{Bind, NodeConfig};
use crate::event::inspect::Inspect;
use crate::event::pipe::{Patient, Peer, Pipe, RequestError};
use crate::event::{Event, Reply};
use crate::http::{HttpServer, HttpSettings};
use crate::link::LinkEnd;
use crate::net::accept::{self, Bound};
use crate::tcp_tunnel::TunnelListeners;

/// Maximum drain time, whatever the caller requests.
const MAX_DRAIN: Duration = Duration::from_secs(3600);
/// How long links have to close cleanly when a node stops.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long answers to callers that outlast the drain may take.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(1);
/// Spread of the reconnects to a stopping server, per client, ...
const RECONNECT_SPREAD_PER_PEER: Duration = Duration::from_millis(5);
/// ... up to this total.
const MAX_RECONNECT_SPREAD: Duration = Duration::from_secs(5);
/// Minimum spread, even for few clients.
const MIN_RECONNECT_SPREAD: Duration = Duration::from_millis(100);
/// How often a stopping node checks whether its links have finished.
const CLOSE_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The common part of a running [`Server`](crate::Server) and [`Client`](crate::Client).
pub struct RunningNode {
    pub(super) core: Arc<Core>,
    pub(super) view: Arc<View>,
    http_server: HttpServer,
    /// The ports of `RP_TCP_LISTEN`, open until the node stops.
    ports: Mutex<TunnelListeners>,
    renewal: Renewal,
    connection_wait: Duration,
}

impl RunningNode {
    /// Binds the local ports and starts keeping the identity up to date.
    pub(super) fn start(
        core: Arc<Core>,
        config: &NodeConfig,
        handler_name: Option<String>,
        http: Option<Bound>,
        on_new_certificate: OnNewCertificate,
    ) -> Result<Self, StartError> {
        let settings = HttpSettings {
            bind: config.http_bind.clone(),
            allowed_hosts: config.http_allowed_hosts.clone(),
            admit_unproven_browsers: config.http_unproven_browsers,
            trusted_pages: config.http_trusted_pages.clone(),
            max_body_bytes: config.max_body_bytes,
            connection_wait: config.connection_wait,
            ..HttpSettings::new(core.role)
        };
        let pipe = Arc::clone(&core.requests) as Arc<dyn Pipe>;
        let view = Arc::new(View::new(Arc::clone(&core), handler_name));
        let shown = Arc::clone(&view) as Arc<dyn Inspect>;
        let http_server = match http {
            Some(bound) => HttpServer::start_on(bound, settings, Arc::clone(&pipe), shown),
            None => HttpServer::start_with(settings, Arc::clone(&pipe), shown),
        };
        let http_server = http_server.map_err(StartError::Http)?;
        let ports = Mutex::new(listen(config, &pipe)?);
        let renewal = Renewal::start(Arc::clone(&core), Arc::clone(&view), on_new_certificate)
            .map_err(StartError::Thread)?;
        let connection_wait = config.connection_wait;
        Ok(Self { core, view, http_server, ports, renewal, connection_wait })
    }

    pub(super) fn request(&self, peer: Peer<'_>, event: &mut Event) -> Result<Reply, RequestError> {
        self.core.requests.request(peer, event, self.connection_wait, &Patient)
    }

    /// A handle for requests to peers, for other parts of a program. It may outlive the node;
    /// requests then fail because the node is stopping.
    pub fn pipe(&self) -> Arc<dyn Pipe> {
        Arc::clone(&self.core.requests) as _
    }

    /// The address of the local HTTP port.
    pub fn http_address(&self) -> &Bind {
        self.http_server.address()
    }

    /// The addresses of the ports that lead to peers' targets, in the order of the configuration.
    pub fn tcp_addresses(&self) -> Vec<Bind> {
        self.ports.lock().addresses().cloned().collect()
    }

    /// Reloads the identity and rules files soon.
    pub fn reload(&self) {
        drop(self.renewal.reload());
    }

    /// Like [`RunningNode::reload`], but waits for completion, for at most `most`.
    pub fn reload_within(&self, most: Duration) {
        // Nothing is ever sent: the channel disconnects when the reload is done.
        let _ = self.renewal.reload().recv_timeout(most);
    }

    /// Watchdog check: takes the locks that every request takes. If one is never released, this
    /// never returns.
    pub(super) fn is_responsive(&self) -> bool {
        // Only taking the lock matters.
        let _ = self.core.peers.open();
        let _ =
            self.core.registry.entries().iter().map(|entry| entry.link.in_flight()).sum::<usize>();
        self.http_server.is_alive()
    }

    /// Finishes requests in flight for at most `drain`, then closes every link.
    pub(super) fn stop(&self, drain: Duration) {
        let deadline = Instant::now() + drain.min(MAX_DRAIN);
        self.view.stop();
        self.http_server.stop_accepting();
        drop(std::mem::take(&mut *self.ports.lock()));
        let peers = u32::try_from(self.core.registry.entries().len()).unwrap_or(u32::MAX);
        let spread = reconnect_spread(peers);
        self.core.service.stop(spread);
        self.core.peers.stop();
        // Listed only now: a later link learns of the stop once it is authenticated.
        for entry in self.core.registry.entries() {
            entry.link.announce_drain(spread);
        }
        self.http_server.finish(deadline);
        let (_alive, never) = crossbeam_channel::bounded::<()>(0);
        let finished = || self.core.registry.entries().iter().all(|entry| entry.link.is_finished());
        while Instant::now() < deadline && !finished() {
            // Nothing is sent: a pause between polls.
            let _ = never.recv_timeout(CLOSE_POLL_INTERVAL);
        }
        // Including links that came up meanwhile.
        for entry in self.core.registry.entries() {
            entry.link.close(LinkEnd::Stopping);
        }
        // Callers on the links just closed still get their answers.
        self.http_server.drain(Instant::now() + LAST_ANSWERS_TIMEOUT);
        self.core.handler.stop();
    }

    /// Flushes the last events and metrics, after the links have ended.
    pub(super) fn finish(&self) {
        self.core.events.finish();
        if let Some(statsd) = &self.core.statsd {
            statsd.finish();
        }
    }
}

/// The time over which this many clients of a stopping server come back.
pub(super) fn reconnect_spread(peers: u32) -> Duration {
    RECONNECT_SPREAD_PER_PEER
        .saturating_mul(peers)
        .clamp(MIN_RECONNECT_SPREAD, MAX_RECONNECT_SPREAD)
}

/// Opens the local ports that lead to peers' targets.
fn listen(config: &NodeConfig, pipe: &Arc<dyn Pipe>) -> Result<TunnelListeners, StartError> {
    let mut ports = TunnelListeners::default();
    for (bind, forward) in &config.tcp_listen {
        let bound = accept::listen(bind).map_err(StartError::Tcp)?;
        ports
            .add(bound, forward.clone(), Arc::clone(pipe), config.connection_wait)
            .map_err(StartError::Thread)?;
    }
    Ok(ports)
}
