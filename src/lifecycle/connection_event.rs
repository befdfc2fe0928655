//! What happens to the connections of a node.

use std::sync::Arc;
use std::time::SystemTime;

use crate::event::peer::PeerIdentity;

/// An event of a node's connections. Clients have the first two, servers the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The server is connected, where it was not. A client that renews its connection while it stands
    /// is connected all the time.
    ConnectSuccess {
        /// The server.
        peer: Arc<PeerIdentity>,
    },
    /// An attempt to connect has failed; the next follows by itself.
    ConnectFail {
        /// How many have failed one after another, this one included.
        attempts: u64,
        /// When the last connection was lost; absent where there was none.
        lost_at: Option<SystemTime>,
        /// Why this one failed, in a line.
        reason: String,
    },
    /// A client is connected, where it was not. One that comes again from elsewhere before its old
    /// connection has ended is removed and added.
    ConnectionAdded {
        /// The client.
        peer: Arc<PeerIdentity>,
        /// How many clients are connected now, this one included.
        count: usize,
    },
    /// A client is connected no longer.
    ConnectionRemoved {
        /// The client.
        peer: Arc<PeerIdentity>,
        /// How many clients are connected now.
        count: usize,
    },
    /// No client has been connected for a minute; repeated each minute until there is one.
    Idle,
}

impl ConnectionEvent {
    /// Its name: `connect_success`, `connect_fail`, `connection_added`, `connection_removed` or `idle`.
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
