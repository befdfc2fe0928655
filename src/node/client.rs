//! The client: dials the server, and dials again whenever the link is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::dialer::{Dialer, News, QUEUE};
use super::renewal::Renewal;
use super::{Core, GOODBYE, StartError};
use crate::config::{Bind, ClientConfig};
use crate::handler::Handler;
use crate::link::Pulse;
use crate::peer::Role;
use crate::wire::Limits;

/// A running client.
pub struct Client {
    core: Core,
    dialer: Arc<Dialer>,
    renewal: Renewal,
    news: Sender<News>,
    /// Disconnects when the dialling thread has ended.
    ended: Receiver<()>,
}

impl Client {
    /// Binds the local HTTP port, and dials from then on.
    pub fn start(config: &ClientConfig, handler: Arc<dyn Handler>) -> Result<Self, StartError> {
        let core = Core::start(Role::Client, &config.node, handler)?;
        let (news, heard) = bounded(QUEUE);
        let dialer = Arc::new(Dialer {
            identity: Arc::clone(&core.identity),
            roster: Arc::clone(&core.roster),
            host: config.target_host.clone(),
            port: config.target_port,
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
        Ok(Self { core, dialer, renewal, news, ended })
    }

    /// Where the local HTTP port listens.
    pub fn http_address(&self) -> &Bind {
        self.core.http_address()
    }

    /// Reads the files of the identity and of the rules anew, soon.
    pub fn reload(&self) {
        self.renewal.reload();
    }

    /// Stops: takes nothing new, finishes what is in flight for at most this long, and closes the
    /// pipe.
    pub fn stop(self, drain: Duration) {
        self.dialer.stopping.store(true, Ordering::Release);
        self.core.stop(Instant::now() + drain);
        // A thread that is still inside an attempt to connect ends with the process.
        let _ = self.news.try_send(News::Stop);
        let _ = self.ended.recv_timeout(GOODBYE);
    }
}
