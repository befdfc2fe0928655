//! Events about a node's connections.

use std::sync::Arc;
use std::time::SystemTime;

use crate::event::peer::PeerIdentity;

/// A connection event. Clients report the first two, servers the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The server is connected and was not before. Renewing a live connection is not reported.
    ConnectSuccess {
        /// The server.
        peer: Arc<PeerIdentity>,
    },
    /// A connection attempt failed; the node retries on its own.
    ConnectFail {
        /// Consecutive failures, including this one.
        attempts: u64,
        /// When the last connection was lost; absent if there was none.
        lost_at: Option<SystemTime>,
        /// Why this attempt failed, in one line.
        reason: String,
    },
    /// A client is connected and was not before. A client that reconnects from elsewhere before its
    /// old connection has ended is reported as removed and then added.
    ConnectionAdded {
        /// The client.
        peer: Arc<PeerIdentity>,
        /// Connected clients, including this one.
        count: usize,
    },
    /// A client disconnected.
    ConnectionRemoved {
        /// The client.
        peer: Arc<PeerIdentity>,
        /// Connected clients now.
        count: usize,
    },
    /// No client has been connected for a minute; repeated every minute until one connects.
    Idle,
}

impl ConnectionEvent {
    /// The event's name: `connect_success`, `connect_fail`, `connection_added`,
    /// `connection_removed` or `idle`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectSuccess { .. } => "connect_success",
            Self::ConnectFail { .. } => "connect_fail",
            Self::ConnectionAdded { .. } => "connection_added",
            Self::ConnectionRemoved { .. } => "connection_removed",
            Self::Idle => "idle",
        }
    }
}
