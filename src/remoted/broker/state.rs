//! The state shared by all connections of a broker.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use socket2::Socket;

use super::settings::BrokerSettings;
use super::waiting_callers::WaitingCallers;
use crate::net::accept::strangers::Strangers;
use crate::remoted::keys::Keyring;
use crate::sync::line_budget::LineBudget;
use crate::sync::permits::Permits;
use crate::sync::shares::Shares;
use crate::sync::workers::Workers;

pub(super) struct BrokerState {
    pub settings: BrokerSettings,
    /// The valid keys. Held only to read or replace them.
    pub keys: RwLock<Arc<Keyring>>,
    /// The certificate, if any. Held only to read or replace it.
    pub tls: RwLock<Option<Arc<ServerConfig>>>,
    pub waiting_callers: WaitingCallers,
    pub connections: Arc<Permits>,
    /// The connections of each key.
    pub places: Arc<Shares>,
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
    /// Limits the log lines about connections without a key.
    pub strangers_log: Arc<LineBudget>,
}

impl BrokerState {
    pub fn keys(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys.read())
    }

    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().clone()
    }
}
