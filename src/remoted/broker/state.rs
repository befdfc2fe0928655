//! The state shared by all connections of a broker.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use socket2::Socket;

use super::settings::BrokerSettings;
use super::waiting_callers::WaitingCallers;
use crate::net::accept::strangers::Strangers;
use crate::remoted::keys::Keyring;
use crate::sync::permits::Permits;
use crate::sync::throttle::{Throttle, Throttles};
use crate::sync::workers::Workers;

pub(super) struct BrokerState {
    pub settings: BrokerSettings,
    /// The valid keys. Held only to read or replace them.
    pub keys: RwLock<Arc<Keyring>>,
    /// The certificate, if any. Held only to read or replace it.
    pub tls: RwLock<Option<Arc<ServerConfig>>>,
    pub waiting_callers: WaitingCallers,
    pub connections: Arc<Permits>,
    /// Connections that have not shown a valid key yet.
    pub strangers: Arc<Strangers<Socket>>,
    /// Serve a connection from its first request on.
    pub request_workers: Workers,
    /// Do TLS handshakes. A handshake needs far more stack than all that follows; on the same thread that
    /// stack would stay in use as long as the connection.
    pub handshake_workers: Workers,
    /// Counts joined pairs, so that stopping can wait for them.
    pub joined: Arc<Permits>,
    /// Counts registered servers, and those that are being sent a close frame.
    pub registered: Arc<Permits>,
    /// Limits the log lines about refused connections: one per address and interval.
    pub refusals: Throttles,
    /// The same for connections beyond the bounds.
    pub crowded: Throttle,
}

impl BrokerState {
    pub fn keys(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys.read())
    }

    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().clone()
    }

    /// Logs a warning about a connection, limited per address.
    pub fn warn_of(&self, name: &str, line: fmt::Arguments<'_>) {
        let address = name.rsplit_once(':').map_or(name, |(address, _)| address);
        if let Some(more) = self.refusals.allow(address) {
            log::warn!("{line}{more}");
        }
    }
}
