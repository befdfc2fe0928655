//! The client: dials the server, and again whenever the link is lost.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::core::Core;
use super::dialer::{Dialer, MAX_QUEUED_NEWS, News};
use super::peer_finder::SERVER;
use super::running::{CLOSE_TIMEOUT, RunningNode};
use super::{Builder, StartError};
use crate::config::{ClientConfig, ServerTarget, TargetMode};
use crate::event::peer::Role;
use crate::event::pipe::{Peer, RequestError};
use crate::event::{Event, Reply};
use crate::handler::Handler;
use crate::link::HeartbeatMode;
use crate::sync::threads;

/// A running client. Dropping it stops it without finishing requests in flight.
pub struct Client {
    node: RunningNode,
    dialers: Vec<Arc<Dialer>>,
    /// One dialling thread per pipe. They exit on their own; see `ended`.
    threads: Vec<JoinHandle<()>>,
    /// Disconnects when the dialling threads have exited.
    ended: Receiver<()>,
    stopped: bool,
}

impl Client {
    /// Binds the local HTTP port and starts dialling; short for [`Client::builder`] with only a
    /// handler.
    pub fn start(config: &ClientConfig, handler: Arc<dyn Handler>) -> Result<Self, StartError> {
        Self::builder(config.clone()).shared_handler(handler).start()
    }

    /// A builder for a client with this configuration.
    pub fn builder(config: ClientConfig) -> Builder<ClientConfig> {
        Builder::new(config)
    }

    pub(super) fn launch(builder: Builder<ClientConfig>) -> Result<Self, StartError> {
        let Builder { config, handler, handler_name, listeners, sockets } = builder;
        let core = Core::new(Role::Client, &config.node, Vec::new(), handler, listeners)?;
        let (running, ended) = bounded::<()>(0);
        let mut dialling = Vec::new();
        for (key, targets) in routes(&config) {
            let (news, receiver) = bounded(MAX_QUEUED_NEWS);
            let dialer = Arc::new(Dialer {
                core: Arc::clone(&core),
                targets,
                key,
                heartbeat: HeartbeatMode::Sends {
                    interval: config.heartbeat_interval,
                    silence: config.heartbeat_timeout,
                },
                news,
                stopping: false.into(),
            });
            dialling.push((dialer, receiver));
        }
        let dialers: Vec<_> = dialling.iter().map(|(dialer, _)| Arc::clone(dialer)).collect();
        let senders: Vec<_> = dialers.iter().map(|dialer| dialer.news.clone()).collect();
        let on_new_certificate = move || {
            for news in &senders {
                // Full: the dialling thread is busy, and uses the new certificate for its next
                // connection anyway.
                let _ = news.try_send(News::NewCertificate);
            }
        };
        let on_new_certificate = Box::new(on_new_certificate);
        let node =
            RunningNode::start(core, &config.node, handler_name, sockets.http, on_new_certificate)?;
        // From here on, dropping the client stops the threads already started.
        let (threads, stopped) = (Vec::new(), false);
        let mut client = Self { node, dialers, threads, ended, stopped };
        for (dialer, receiver) in dialling {
            let running = running.clone();
            let thread = threads::spawn("dial", move || {
                let _running = running;
                dialer.run(&receiver);
            })
            .map_err(StartError::Thread)?;
            client.threads.push(thread);
        }
        Ok(client)
    }

    /// Sends a request to the server and waits for the reply. If the server is not connected, waits
    /// for it as configured. The reply may report that the server's handler failed: see
    /// [`Reply::raise_for_exception`].
    pub fn request(&self, event: &mut Event) -> Result<Reply, RequestError> {
        self.node.request(Peer::Server, event)
    }

    /// Watchdog check: whether the threads run and the locks that a request needs are free. If a
    /// lock is held forever, this never returns, and the watchdog gets no sign of life.
    pub(crate) fn is_alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished()) && self.node.is_responsive()
    }

    /// Stops the client: accepts nothing new, finishes requests in flight for at most `drain`, and
    /// closes the pipe.
    pub fn stop(mut self, drain: Duration) {
        self.shut(drain);
    }

    fn shut(&mut self, drain: Duration) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        for dialer in &self.dialers {
            dialer.stopping.store(true, Ordering::Release);
        }
        self.node.stop(drain);
        for dialer in &self.dialers {
            // A thread in the middle of a connection attempt exits after it.
            let _ = dialer.news.try_send(News::Stop);
        }
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
        self.node.finish();
    }
}

impl Builder<ClientConfig> {
    /// Binds the local HTTP port and starts dialling, without waiting for the server.
    pub fn start(self) -> Result<Client, StartError> {
        self.config.check().map_err(StartError::Config)?;
        Client::launch(self)
    }
}

impl Deref for Client {
    type Target = RunningNode;

    fn deref(&self) -> &RunningNode {
        &self.node
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}

/// The servers of each pipe, with the key of the pipe in the peer table.
fn routes(config: &ClientConfig) -> Vec<(String, Vec<ServerTarget>)> {
    match config.target_mode {
        TargetMode::Failover => vec![(SERVER.to_owned(), config.targets())],
        TargetMode::All => {
            let named = config.targets().into_iter().enumerate();
            named.map(|(at, target)| (format!("{SERVER} {at}"), vec![target])).collect()
        }
    }
}
