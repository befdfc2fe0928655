//! The client: dials the server, and dials again whenever the link is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::dialer::{Dialer, MAX_QUEUED_NEWS, News};
use super::renewal::Renewal;
use super::requests::SERVER;
use super::{Builder, CLOSE_TIMEOUT, Core, StartError};
use crate::config::{Bind, ClientConfig, ServerTarget, TargetMode};
use crate::event::peer::Role;
use crate::event::pipe::{Patient, Peer, Pipe, RequestError};
use crate::event::{Event, Reply};
use crate::handler::Handler;
use crate::link::HeartbeatMode;
use crate::wire::FrameLimits;

/// A running client. Dropping it stops it without finishing what is in flight.
pub struct Client {
    core: Core,
    dialers: Vec<Arc<Dialer>>,
    /// One for each of them. They end by themselves; see `ended`.
    threads: Vec<JoinHandle<()>>,
    renewal: Renewal,
    /// Disconnects when the dialling threads have ended.
    ended: Receiver<()>,
    connection_wait: Duration,
    stopped: bool,
}

impl Client {
    /// Binds the local HTTP port, and dials from then on: [`Client::builder`] in its shortest form.
    pub fn start(config: &ClientConfig, handler: Arc<dyn Handler>) -> Result<Self, StartError> {
        Self::builder(config.clone()).shared_handler(handler).start()
    }

    /// A client of this configuration, before it is started.
    pub fn builder(config: ClientConfig) -> Builder<ClientConfig> {
        Builder::new(config)
    }

    pub(super) fn launch(builder: Builder<ClientConfig>) -> Result<Self, StartError> {
        let Builder { config, handler, handler_name, listeners, sockets } = builder;
        let answering = (handler, handler_name);
        let core = Core::start(Role::Client, &config.node, answering, listeners, sockets.http)?;
        let (running, ended) = bounded::<()>(0);
        let mut dialling = Vec::new();
        for (key, targets) in routes(&config) {
            let (news, heard) = bounded(MAX_QUEUED_NEWS);
            let dialer = Arc::new(Dialer {
                identity: Arc::clone(&core.identity),
                registry: Arc::clone(&core.registry),
                targets,
                key,
                heartbeat: HeartbeatMode::Sends {
                    interval: config.heartbeat_interval,
                    silence: config.heartbeat_timeout,
                },
                limits: FrameLimits { max_data: config.node.max_body_bytes },
                stall: config.node.reply_timeout,
                reply_timeout: config.node.reply_timeout,
                service: Arc::clone(&core.service),
                peers: Arc::clone(&core.peers),
                resolver: Arc::clone(&core.resolver),
                events: Arc::clone(&core.events),
                feed: Arc::clone(&core.view.feed),
                meter: Arc::clone(&core.requests.meter),
                news,
                stopping: false.into(),
            });
            dialling.push((dialer, heard));
        }
        let dialers: Vec<_> = dialling.iter().map(|(dialer, _)| Arc::clone(dialer)).collect();
        let telling: Vec<_> = dialers.iter().map(|dialer| dialer.news.clone()).collect();
        let on_new_certificate = move || {
            for news in &telling {
                // Full: the dialling thread is busy, and dials by the new certificate next anyway.
                let _ = news.try_send(News::NewCertificate);
            }
        };
        let renewal = core.keep_up(Box::new(on_new_certificate))?;
        let connection_wait = config.node.connection_wait;
        // From here on dropping it ends the threads that have been started.
        let (threads, stopped) = (Vec::new(), false);
        let mut client = Self { core, dialers, threads, renewal, ended, connection_wait, stopped };
        for (dialer, heard) in dialling {
            let running = running.clone();
            let thread = thread::Builder::new()
                .name("dial".to_owned())
                .spawn(move || {
                    let _running = running;
                    dialer.run(&heard);
                })
                .map_err(StartError::Thread)?;
            client.threads.push(thread);
        }
        Ok(client)
    }

    /// Asks the server and waits for its reply. A server that is away is waited for as the
    /// configuration says. A reply may say that the server's handler failed: see
    /// [`Reply::raise_for_exception`].
    pub fn request(&self, event: &mut Event) -> Result<Reply, RequestError> {
        self.core.requests.request(Peer::Server, event, self.connection_wait, &Patient)
    }

    /// The way to ask the server, to hand to other parts of a program. It outlives the client, and says
    /// then that that is stopping.
    pub fn pipe(&self) -> Arc<dyn Pipe> {
        Arc::clone(&self.core.requests) as _
    }

    /// Where the local HTTP port listens.
    pub fn http_address(&self) -> &Bind {
        self.core.http_address()
    }

    /// Where the ports listen that lead to targets of the other side, in the configuration's order.
    pub fn tcp_addresses(&self) -> Vec<Bind> {
        self.core.tcp_addresses()
    }

    /// Reads the files of the identity and of the rules anew, soon.
    pub fn reload(&self) {
        drop(self.renewal.reload());
    }

    /// As [`Client::reload`], and waits until that is done, for at most this long.
    pub fn reload_within(&self, most: Duration) {
        // Nothing is ever sent: this is the end of the reading.
        let _ = self.renewal.reload().recv_timeout(most);
    }

    /// Whether it serves, for a watchdog: its threads run, and what a request takes can be had. Where
    /// that is locked for ever, it never returns, and the watchdog hears nothing either.
    pub(crate) fn is_alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished()) && self.core.is_alive()
    }

    /// Stops: takes nothing new, finishes what is in flight for at most this long, and closes the
    /// pipe.
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
        self.core.stop(drain);
        for dialer in &self.dialers {
            // A thread that is still inside an attempt to connect ends after that.
            let _ = dialer.news.try_send(News::Stop);
        }
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
        self.core.finish();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}

/// The servers of each pipe that is to be kept, with what the peer table calls it.
fn routes(config: &ClientConfig) -> Vec<(String, Vec<ServerTarget>)> {
    match config.target_mode {
        TargetMode::Failover => vec![(SERVER.to_owned(), config.targets())],
        TargetMode::All => {
            let named = config.targets().into_iter().enumerate();
            named.map(|(at, target)| (format!("{SERVER} {at}"), vec![target])).collect()
        }
    }
}
