//! The broker: servers register paths at it, and callers are joined to them.
//!
//! In scope: starting and stopping, and taking in new keys. What happens in between has a file for
//! each step: `visit` reads what somebody wants, `request` judges it, `refusal` says no, `server`
//! keeps a registration, `hall` has callers wait, `join` brings the two together. Not in scope: the
//! two ends.
//!
//! A connection has a thread of `workers` while it says what it wants, and until it has shown a good key
//! it is one of the strangers, whose number and time are bounded. A registered server keeps that
//! thread, with a small stack. A caller that waits has none: one thread watches all of them for those who
//! leave or have waited long enough, and nothing of theirs is read, so that what they send early
//! stays in the sockets. Joined connections are carried by the thread of the server's one.

mod hall;
mod join;
mod limits;
mod refusal;
mod request;
mod server;
mod tls;
mod visit;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use socket2::Socket;

use super::keys::{Keyring, KeysError};
use crate::config::{Bind, BrokerConfig};
use crate::net::accept::strangers::Strangers;
use crate::net::accept::{self, Acceptor, BindError, SocketFile};
use crate::sync::permits::Permits;
use crate::sync::workers::Workers;

use crate::sync::threads;
use crate::sync::throttle::{Throttle, Throttles};
use hall::Hall;
pub use limits::{Bounds, Times};

/// What registered servers get to take in that the broker stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a broker is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What comes from outside.
    pub config: BrokerConfig,
    /// How long things may take.
    pub times: Times,
    /// How many of them there may be.
    pub bounds: Bounds,
}

impl Settings {
    /// With the original's times.
    pub fn new(config: BrokerConfig) -> Self {
        Self { config, times: Times::default(), bounds: Bounds::default() }
    }
}

/// A running broker. Dropping it stops it without waiting for joined connections.
pub struct Broker {
    shared: Arc<Shared>,
    address: Bind,
    /// Guards what stopping takes away. Stopping joins the threads while it is held; they never
    /// take it.
    running: Mutex<Option<Running>>,
}

struct Running {
    acceptor: Acceptor,
    file: Option<SocketFile>,
    hall: JoinHandle<()>,
}

/// What all connections of a broker use.
struct Shared {
    settings: Settings,
    /// Guards which keys count. Nothing is done while it is held.
    keys: RwLock<Arc<Keyring>>,
    /// Guards the certificate that is shown, if any. Nothing is done while it is held.
    tls: RwLock<Option<Arc<ServerConfig>>>,
    hall: Hall,
    connections: Arc<Permits>,
    /// Connections that have shown no good key yet.
    strangers: Arc<Strangers<Socket>>,
    /// Take a connection from its first request on.
    attendants: Workers,
    /// Shake hands, where TLS is spoken. A handshake needs far more stack than all that follows; on
    /// the same thread it would stay for as long as the connection lives.
    shakers: Workers,
    /// Those who are joined, for who waits until there are none.
    joined: Arc<Permits>,
    /// Those who are registered, and those who are just told that they are not any more.
    registered: Arc<Permits>,
    /// Keeps callers that are refused from flooding the log: a line per address and interval.
    refusals: Throttles,
    /// The same for connections that there is no place for.
    crowded: Throttle,
}

impl Shared {
    fn keys(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys.read())
    }

    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().clone()
    }
}

impl Broker {
    /// Reads the files, binds, and accepts from the moment it returns.
    pub fn start(settings: Settings) -> Result<Self, BrokerError> {
        let config = &settings.config;
        let (keyring, warning) = Keyring::load(&config.keys)?;
        if let Some(warning) = warning {
            log::warn!("{warning}");
        }
        let tls =
            config.tls.as_ref().map(tls::server_config).transpose().map_err(BrokerError::Tls)?;
        let bind = config.bind.clone().or(keyring.bind.map(Bind::Tcp));
        let bound = accept::listen(bind.as_ref().unwrap_or(&config.default_bind))?;
        let hall = Hall::new(settings.bounds).map_err(BrokerError::system)?;
        let shared = Arc::new(Shared {
            keys: RwLock::new(Arc::new(keyring)),
            tls: RwLock::new(tls),
            hall,
            connections: Permits::new(settings.bounds.connections),
            strangers: Strangers::new(settings.bounds.keyless, settings.times.keyless),
            attendants: Workers::new("remoted-visit"),
            shakers: Workers::new("remoted-tls"),
            joined: Permits::unbounded(),
            registered: Permits::unbounded(),
            refusals: Throttles::default(),
            crowded: Throttle::default(),
            settings,
        });
        let watching = Arc::clone(&shared);
        let hall = threads::spawn("remoted-hall", move || hall::watch(&watching))
            .map_err(BrokerError::system)?;
        let admitting = Arc::clone(&shared);
        let started = Acceptor::start("remoted", bound.socket, move |socket| {
            visit::admit(socket, &admitting);
        });
        let acceptor = started.map_err(|error| {
            shared.hall.stop();
            BrokerError::system(error)
        })?;
        let running = Mutex::new(Some(Running { acceptor, file: bound.file, hall }));
        Ok(Self { shared, address: bound.address, running })
    }

    /// Where it listens; the real port, also where 0 was asked for.
    pub fn address(&self) -> &Bind {
        &self.address
    }

    /// Reads keys and certificate anew. With any fault the old ones stay, and a line says why. The
    /// registrations and waiting callers of a key that is gone are ended; joined connections stay.
    pub fn reload(&self) {
        let shared = &self.shared;
        let config = &shared.settings.config;
        match Keyring::load(&config.keys) {
            Err(error) => log::error!("the old keys stay: {error}"),
            Ok((keyring, warning)) => {
                if let Some(warning) = warning {
                    log::warn!("{warning}");
                }
                let keyring = Arc::new(keyring);
                let count = keyring.count();
                *shared.keys.write() = Arc::clone(&keyring);
                let (servers, callers) = hall::dismiss(shared, &keyring);
                log::info!(
                    "{}: {count} keys count now; {servers} registrations and {callers} waiting \
                     callers ended",
                    config.keys.display()
                );
            }
        }
        if let Some(files) = &config.tls {
            match tls::server_config(files) {
                Err(error) => log::error!("the old certificate stays: {error}"),
                Ok(new) => *shared.tls.write() = Some(new),
            }
        }
    }

    /// Stops: no further connections, registrations and waiting callers end at once, and joined
    /// connections get until `drain` to end by themselves.
    pub fn stop(&self, drain: Duration) {
        self.close();
        let deadline = Instant::now() + drain;
        // They get a word of goodbye, and are gone soon after.
        self.shared.registered.wait_empty(deadline.min(Instant::now() + GOODBYE));
        let left = self.shared.joined.wait_empty(deadline);
        if left > 0 {
            log::warn!("cut {left} joined connections that did not end within {drain:?}");
        }
    }

    fn close(&self) {
        let mut running = self.running.lock();
        let Some(Running { mut acceptor, file, hall }) = running.take() else { return };
        acceptor.stop();
        if let Some(file) = file {
            file.remove();
        }
        self.shared.hall.stop();
        let _ = hall.join();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a broker does not start.
#[derive(Debug)]
pub enum BrokerError {
    /// Its file of keys cannot be used.
    Keys(KeysError),
    /// Its certificate cannot be used; why, in a line.
    Tls(String),
    /// It cannot listen there.
    Bind(BindError),
    /// The operating system refuses something else.
    System(std::io::Error),
}

impl BrokerError {
    fn system(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

impl From<KeysError> for BrokerError {
    fn from(error: KeysError) -> Self {
        Self::Keys(error)
    }
}

impl From<BindError> for BrokerError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(error) => write!(f, "{error}; `rp_remoted keys FILE` makes one"),
            Self::Tls(error) => f.write_str(error),
            Self::Bind(error) => error.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BrokerError {}
