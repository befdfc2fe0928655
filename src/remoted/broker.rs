//! The broker: servers register paths, and callers are joined to them.
//!
//! In scope: starting, reloading and stopping. Each step in between has a file: `requests` reads requests,
//! `request` classifies them, `refusal` answers those that are refused, `register` serves a registered
//! server (`session`), `waiting_callers` keeps callers until their server comes, `join` joins the two, and
//! `first_bytes` keeps the caller's from a server that would lose them. Not in scope: servers and callers.
//!
//! A connection occupies a worker thread while it makes requests. Until it has shown a valid key it is one
//! of the strangers, whose number and time are bounded. A registered server keeps its thread, with a small
//! stack. A waiting caller has none: one thread watches all of them for disconnects and timeouts and reads
//! nothing, so early bytes stay in the sockets. The thread of the server's connection relays the bytes of a
//! joined pair.

mod first_bytes;
mod join;
mod refusal;
mod register;
mod registered_server;
mod request;
mod requests;
mod session;
mod settings;
mod state;
mod tls;
mod visitor;
mod waiting_callers;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::keys::{Keyring, KeysError};
use crate::config::Bind;
use crate::net::accept::strangers::Strangers;
use crate::net::accept::{self, Acceptor, AtStop, BindError, SocketFile};
use crate::sync::line_budget::LineBudget;
use crate::sync::permits::Permits;
use crate::sync::shares::Shares;
use crate::sync::threads::spawn;
use crate::sync::workers::Workers;
pub use settings::{Bounds, BrokerSettings, Times};
use state::BrokerState;
use waiting_callers::WaitingCallers;

/// The time for registered servers to read the close frame when the broker stops.
const CLOSE_FRAME_TIMEOUT: Duration = Duration::from_secs(1);

/// A running broker. Dropping it stops it without waiting for joined connections.
pub struct Broker {
    state: Arc<BrokerState>,
    address: Bind,
    /// Taken by `stop`, which joins the threads under this lock; the threads never take it.
    running: Mutex<Option<Running>>,
}

struct Running {
    acceptor: Acceptor,
    file: Option<SocketFile>,
    watcher: JoinHandle<()>,
}

impl Broker {
    /// Reads the files, binds and starts to accept.
    pub fn start(settings: BrokerSettings) -> Result<Self, BrokerError> {
        let config = &settings.config;
        let (keyring, warning) = Keyring::load(&config.keys)?;
        if let Some(warning) = warning {
            log::warn!("{warning}");
        }
        let tls =
            config.tls.as_ref().map(tls::server_config).transpose().map_err(BrokerError::Tls)?;
        let bind = config.bind.clone().or(keyring.bind.map(Bind::Tcp));
        let bound = accept::listen(bind.as_ref().unwrap_or(&config.default_bind))?;
        let waiting_callers = WaitingCallers::new(settings.bounds).map_err(BrokerError::System)?;
        let state = Arc::new(BrokerState {
            keys: RwLock::new(Arc::new(keyring)),
            tls: RwLock::new(tls),
            waiting_callers,
            connections: Permits::new(settings.bounds.connections),
            places: Shares::new(settings.bounds.places_of_keys()),
            strangers: Strangers::new(settings.bounds.keyless, settings.times.keyless),
            request_workers: Workers::new("remoted-request"),
            handshake_workers: Workers::new("remoted-tls"),
            joined: Permits::unbounded(),
            registered: Permits::unbounded(),
            strangers_log: LineBudget::new("broker"),
            settings,
        });
        let watching = Arc::clone(&state);
        let watcher = spawn("remoted-waiting", move || watching.waiting_callers.watch())
            .map_err(BrokerError::System)?;
        let admitting = Arc::clone(&state);
        let started = Acceptor::start("remoted", bound.socket, AtStop::Refuse, move |socket| {
            requests::admit(socket, &admitting);
        });
        let acceptor = started.map_err(|error| {
            state.waiting_callers.stop();
            BrokerError::System(error)
        })?;
        let running = Mutex::new(Some(Running { acceptor, file: bound.file, watcher }));
        Ok(Self { state, address: bound.address, running })
    }

    /// The address it listens on, with the real port if 0 was configured.
    pub fn address(&self) -> &Bind {
        &self.address
    }

    /// Reloads keys and certificate. If one of them is invalid, the old one stays and the log says why.
    /// Registrations and waiting callers of a removed key are closed; joined connections stay.
    pub fn reload(&self) {
        let state = &self.state;
        let config = &state.settings.config;
        match Keyring::load(&config.keys) {
            Err(error) => log::error!("the old keys stay: {error}"),
            Ok((keyring, warning)) => {
                if let Some(warning) = warning {
                    log::warn!("{warning}");
                }
                let keyring = Arc::new(keyring);
                let count = keyring.count();
                *state.keys.write() = Arc::clone(&keyring);
                let (servers, callers) = state.waiting_callers.revoke(&keyring);
                log::info!(
                    "{}: {count} keys in effect; {servers} registrations and {callers} waiting \
                     callers ended",
                    config.keys.display()
                );
            }
        }
        if let Some(files) = &config.tls {
            match tls::server_config(files) {
                Err(error) => log::error!("the old certificate stays: {error}"),
                Ok(new) => *state.tls.write() = Some(new),
            }
        }
    }

    /// Stops: closes the listener, registrations and waiting callers at once, and gives joined connections
    /// until `drain` to end.
    pub fn stop(&self, drain: Duration) {
        self.close();
        let deadline = Instant::now() + drain;
        self.state.registered.wait_empty(deadline.min(Instant::now() + CLOSE_FRAME_TIMEOUT));
        let left = self.state.joined.wait_empty(deadline);
        if left > 0 {
            log::warn!("cut {left} joined connections that did not end within {drain:?}");
        }
    }

    fn close(&self) {
        let mut running = self.running.lock();
        let Some(Running { mut acceptor, file, watcher }) = running.take() else { return };
        acceptor.stop();
        if let Some(file) = file {
            file.remove();
        }
        self.state.waiting_callers.stop();
        let _ = watcher.join();
        self.state.strangers_log.finish();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The file of keys is invalid.
    #[error("{0}; `rp_remoted keys FILE` makes one")]
    Keys(#[from] KeysError),
    /// The certificate is invalid; the reason, in one line.
    #[error("{0}")]
    Tls(String),
    /// It cannot listen on the address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Another error of the operating system.
    #[error(transparent)]
    System(std::io::Error),
}
