//! The two roles: a server that accepts pipes, and a client that dials one and dials again.
//!
//! In scope: who is connected, finding the link for a request, starting and stopping. Not in scope:
//! what happens on a link (`link`), HTTP (`http`).

mod builder;
mod client;
mod dialer;
mod feed;
mod history;
mod link_registry;
mod peer_table;
mod renewal;
mod requests;
mod server;
mod trial;
mod view;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::UnixTime;

pub use crate::net::accept::{Handed, HandoverError};
pub use builder::Builder;
pub use client::Client;
pub use server::Server;
pub(crate) use trial::Trial;

use crate::config::{Bind, ConfigError, NodeConfig};
use crate::event::inspect::Inspect;
use crate::event::pipe::Pipe;
use crate::handler::{Guarded, Handler, Role};
use crate::http::{HttpServer, HttpSettings};
use crate::identity::{IdentityError, Keeper};
use crate::lifecycle::hook::{HookProgram, Unusable};
use crate::lifecycle::{EventListeners, Events};
use crate::link::{EventService, LinkEnd};
use crate::metrics::exposition::{self, Metrics};
use crate::metrics::meter::Meter;
use crate::metrics::statsd::StatsdSender;
use crate::net::accept::{self, BindError, Bound};
use crate::net::dial::Resolver;
use crate::rules::{LoadError, Rulebook};
use crate::tcp_tunnel::{self, Targets};
use link_registry::LinkRegistry;
use peer_table::PeerTable;
use renewal::{OnNewCertificate, Renewal};
use requests::Requests;
use view::View;

/// No node drains longer, whatever it is told.
const MAX_DRAIN: Duration = Duration::from_secs(3600);
/// How long links get to close properly when a node stops.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long the answers of callers that the drain did not wait for may take.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_millis(500);
/// Clients of a stopping server come back one after another, with about this much time for each, ...
const RECONNECT_SPREAD_PER_PEER: Duration = Duration::from_millis(5);
/// ... but within this.
const MAX_RECONNECT_SPREAD: Duration = Duration::from_secs(5);
/// However few they are, they are given this much.
const MIN_RECONNECT_SPREAD: Duration = Duration::from_millis(100);
/// After a restart that callers are not to notice, a name that nobody has had yet may be that of a
/// client that is on its way back, for this long.
const RESTART_GRACE: Duration = Duration::from_secs(30);
/// How often a stopping node looks whether its links have finished.
const CLOSE_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Why a node does not start.
#[derive(Debug)]
pub enum StartError {
    /// A value outside what is accepted.
    Config(ConfigError),
    /// The program that is to be run for connection events cannot be.
    Hook(Role, Unusable),
    /// The identity cannot be used.
    Identity(IdentityError),
    /// The rules cannot be used.
    Rules(LoadError),
    /// The local HTTP port cannot be bound.
    Http(BindError),
    /// A port that leads to a target of a peer cannot be bound.
    Tcp(BindError),
    /// The pipe port cannot be bound.
    Pipe(SocketAddr, io::Error),
    /// The counters cannot be set up.
    Metrics(exposition::Error),
    /// No thread to be had.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Hook(role, error) => {
                let role = role.as_str().to_ascii_uppercase();
                write!(f, "RP_{role}_CONNECTION_STATE_CHANGE_EVENT_CLASS: {error}")
            }
            Self::Identity(error) => write!(f, "{error}"),
            Self::Rules(error) => write!(f, "{error}"),
            Self::Http(error) => write!(f, "the local HTTP port: {error}"),
            Self::Tcp(error) => write!(f, "a port of RP_TCP_LISTEN: {error}"),
            Self::Pipe(address, error) => {
                write!(f, "the pipe port: cannot listen on {address}: {error}")
            }
            Self::Metrics(error) => write!(f, "cannot set up the counters: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What both roles are made of.
struct Core {
    identity: Arc<Keeper>,
    registry: Arc<LinkRegistry>,
    /// Absent: every peer may ask anything.
    rules: Option<Arc<Rulebook>>,
    handler: Arc<dyn Handler>,
    service: Arc<EventService>,
    peers: Arc<PeerTable>,
    resolver: Arc<Resolver>,
    requests: Arc<Requests>,
    events: Arc<Events>,
    view: Arc<View>,
    statsd: Option<Arc<StatsdSender>>,
    http_server: HttpServer,
    /// Guards what stopping takes away.
    ports: Mutex<tcp_tunnel::TunnelListeners>,
}

impl Core {
    fn start(
        role: Role,
        config: &NodeConfig,
        (handler, handler_name): (Arc<dyn Handler>, Option<String>),
        listeners: EventListeners,
        http: Option<Bound>,
    ) -> Result<Self, StartError> {
        let now = UnixTime::now();
        let identity = Keeper::load(config.identity.clone(), config.crl.clone(), role, now)
            .map_err(StartError::Identity)?;
        renewal::warn_if_revoked(&identity, now);
        let rules = open_rules(config)?;
        // Also where there are none: no other handler is to see what is asked of them.
        let handler: Arc<dyn Handler> = Arc::new(Targets::new(config.tcp_targets.clone(), handler));
        let handler = match &rules {
            Some(book) => Arc::new(Guarded::new(handler, Arc::clone(book))),
            None => handler,
        };
        let events = Arc::new(start_events(role, config, listeners)?);
        let statsd = config.statsd.as_ref().map(StatsdSender::start).transpose();
        let statsd = statsd.map_err(StartError::Thread)?.map(Arc::new);
        let metrics = Arc::new(Metrics::new().map_err(StartError::Metrics)?);
        let mut meters = vec![Arc::clone(&metrics) as Arc<dyn Meter>];
        meters.extend(statsd.iter().map(|statsd| Arc::clone(statsd) as _));
        let meter: Arc<dyn Meter> = Arc::new(meters);
        let service =
            EventService::start(role, Arc::clone(&handler), config.debug, Arc::clone(&meter))
                .map_err(StartError::Thread)?;
        let peers = Arc::new(match role {
            Role::Server => PeerTable::default(),
            Role::Client => PeerTable::of_servers(),
        });
        let resolver = Arc::new(Resolver::default());
        let requests = Arc::new(Requests {
            peers: Arc::clone(&peers),
            resolver: Arc::clone(&resolver),
            reply_timeout: config.reply_timeout,
            restart_grace: http.as_ref().map(|_| Instant::now() + RESTART_GRACE),
            meter,
        });
        let settings = HttpSettings {
            bind: config.http_bind.clone(),
            allowed_hosts: config.http_allowed_hosts.clone(),
            max_body_bytes: config.max_body_bytes,
            connection_wait: config.connection_wait,
            ..HttpSettings::new(role)
        };
        let pipe = Arc::clone(&requests) as Arc<dyn Pipe>;
        let identity = Arc::new(identity);
        let registry: Arc<LinkRegistry> = Arc::default();
        let view = Arc::new(View::new(view::Parts {
            role,
            handler: handler_name,
            identity: Arc::clone(&identity),
            registry: Arc::clone(&registry),
            peers: Arc::clone(&peers),
            service: Arc::clone(&service),
            metrics,
        }));
        let shown = Arc::clone(&view) as Arc<dyn Inspect>;
        let http_server = match http {
            Some(bound) => HttpServer::start_on(bound, settings, Arc::clone(&pipe), shown),
            None => HttpServer::start_with(settings, Arc::clone(&pipe), shown),
        };
        let http_server = http_server.map_err(StartError::Http)?;
        let ports = listen(config, &pipe)?;
        Ok(Self {
            identity,
            registry,
            rules,
            handler,
            service,
            peers,
            resolver,
            requests,
            events,
            view,
            statsd,
            http_server,
            ports: Mutex::new(ports),
        })
    }

    /// Keeps the identity up to date from now on.
    fn keep_up(&self, on_new_certificate: OnNewCertificate) -> Result<Renewal, StartError> {
        let (keeper, registry) = (Arc::clone(&self.identity), Arc::clone(&self.registry));
        let view = Arc::clone(&self.view);
        Renewal::start(keeper, registry, self.rules.clone(), view, on_new_certificate)
            .map_err(StartError::Thread)
    }

    /// Whether a request could pass: for a watchdog. Takes the locks that each request takes, which are
    /// held for moments; where one is never given back, it never returns.
    fn is_alive(&self) -> bool {
        // Only that they could be had matters.
        let _ = self.peers.open();
        let _ = self.registry.entries().iter().map(|entry| entry.link.in_flight()).sum::<usize>();
        self.http_server.is_alive()
    }

    fn http_address(&self) -> &Bind {
        self.http_server.address()
    }

    fn tcp_addresses(&self) -> Vec<Bind> {
        let ports = self.ports.lock();
        ports.addresses().cloned().collect()
    }

    /// Finishes what is in flight, for at most this long, and closes every link.
    fn stop(&self, drain: Duration) {
        let deadline = Instant::now() + drain.min(MAX_DRAIN);
        self.view.stop();
        self.http_server.stop_accepting();
        drop(std::mem::take(&mut *self.ports.lock()));
        let peers = u32::try_from(self.registry.entries().len()).unwrap_or(u32::MAX);
        let spread = RECONNECT_SPREAD_PER_PEER
            .saturating_mul(peers)
            .clamp(MIN_RECONNECT_SPREAD, MAX_RECONNECT_SPREAD);
        self.service.stop(spread);
        self.peers.stop();
        // Looked up after that: one that comes from here on is told when it has said who it is.
        for entry in self.registry.entries() {
            entry.link.announce_drain(spread);
        }
        self.http_server.finish(deadline);
        let (_alive, never) = crossbeam_channel::bounded::<()>(0);
        let finished = || self.registry.entries().iter().all(|entry| entry.link.is_finished());
        while Instant::now() < deadline && !finished() {
            // Nothing is sent: this is a pause between looks.
            let _ = never.recv_timeout(CLOSE_POLL_INTERVAL);
        }
        // Also those that came meanwhile.
        for entry in self.registry.entries() {
            entry.link.close(LinkEnd::Stopping);
        }
        // Callers whose links were closed under them are being told so.
        self.http_server.drain(Instant::now() + LAST_ANSWERS_TIMEOUT);
        self.handler.stop();
    }

    /// When the links have ended: lets the last events and numbers out.
    fn finish(&self) {
        self.events.finish();
        if let Some(statsd) = &self.statsd {
            statsd.finish();
        }
    }
}

/// Opens the local ports that lead to targets of peers.
fn listen(
    config: &NodeConfig,
    pipe: &Arc<dyn Pipe>,
) -> Result<tcp_tunnel::TunnelListeners, StartError> {
    let mut ports = tcp_tunnel::TunnelListeners::default();
    for (bind, forward) in &config.tcp_listen {
        let bound = accept::listen(bind).map_err(StartError::Tcp)?;
        ports
            .add(bound, forward.clone(), Arc::clone(pipe), config.connection_wait)
            .map_err(StartError::Thread)?;
    }
    Ok(ports)
}

/// Starts what tells connection events, to the configured program too.
fn start_events(
    role: Role,
    config: &NodeConfig,
    mut listeners: EventListeners,
) -> Result<Events, StartError> {
    if let Some(hook) = &config.hook {
        let program = HookProgram::new(&hook.path, listeners.ending())
            .map_err(|unusable| StartError::Hook(role, unusable))?;
        listeners.on_event(move |event| program.run(event));
    }
    Events::start(role, listeners).map_err(StartError::Thread)
}

fn open_rules(config: &NodeConfig) -> Result<Option<Arc<Rulebook>>, StartError> {
    let Some(path) = &config.rules else { return Ok(None) };
    let book = Rulebook::open(path).map_err(StartError::Rules)?;
    renewal::say_rules("rules", &book);
    Ok(Some(Arc::new(book)))
}
