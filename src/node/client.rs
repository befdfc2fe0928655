//! The client: dials the server, and dials again whenever the link is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::dialer::{Dialer, News, QUEUE};
use super::renewal::Renewal;
use super::{Builder, Core, GOODBYE, StartError};
use crate::config::{Bind, ClientConfig};
use crate::event::{Event, Reply};
use crate::handler::Handler;
use crate::link::Pulse;
use crate::peer::Role;
use crate::pipe::{Patient, Peer, Pipe, RequestError};
use crate::wire::Limits;

/// A running client. Dropping it stops it without finishing what is in flight.
pub struct Client {
    core: Core,
    dialer: Arc<Dialer>,
    renewal: Renewal,
    news: Sender<News>,
    /// Disconnects when the dialling thread has ended.
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
        let Builder { config, handler, listeners } = builder;
        let core = Core::start(Role::Client, &config.node, handler, listeners)?;
        let (news, heard) = bounded(QUEUE);
        let dialer = Arc::new(Dialer {
            identity: Arc::clone(&core.identity),
            roster: Arc::clone(&core.roster),
            host: config.target_host.clone(),
            port: config.target_port,
            proxy: config.proxy.clone(),
            server_name: config.server_name.clone(),
            pulse: Pulse::Sends {
                interval: config.heartbeat_interval,
                silence: config.heartbeat_timeout,
            },
            limits: Limits { max_data: config.node.max_body_bytes },
            stall: config.node.reply_timeout,
            reply_timeout: config.node.reply_timeout,
            service: Arc::clone(&core.service),
            catalog: Arc::clone(&core.catalog),
            resolver: Arc::clone(&core.resolver),
            events: Arc::clone(&core.events),
            feed: Arc::clone(&core.view.feed),
            meter: Arc::clone(&core.requests.meter),
            news: news.clone(),
            stopping: false.into(),
        });
        let telling = news.clone();
        let on_new_certificate = move || {
            // Full: the dialling thread is busy, and dials by the new certificate next anyway.
            let _ = telling.try_send(News::NewCertificate);
        };
        let renewal = core.keep_up(Box::new(on_new_certificate))?;
        let (running, ended) = bounded::<()>(0);
        let dialing = Arc::clone(&dialer);
        thread::Builder::new()
            .name("dial".to_owned())
            .spawn(move || {
                let _running = running;
                dialing.run(&heard);
            })
            .map_err(StartError::Thread)?;
        let connection_wait = config.node.connection_wait;
        Ok(Self { core, dialer, renewal, news, ended, connection_wait, stopped: false })
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
        self.renewal.reload();
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
        self.dialer.stopping.store(true, Ordering::Release);
        self.core.stop(drain);
        // A thread that is still inside an attempt to connect ends after that.
        let _ = self.news.try_send(News::Stop);
        let _ = self.ended.recv_timeout(GOODBYE);
        self.core.finish();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}
