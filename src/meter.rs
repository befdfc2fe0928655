//! What happens in a node, told to whoever counts it.
//!
//! In scope: the few moments that are worth a number, and the trait of those who take them. Not in
//! scope: names of metrics and where they go (`statsd`).

use std::time::Duration;

/// Takes the marks of a node.
pub trait Meter: Send + Sync {
    /// Called on the thread where it happened, on the way of every request: it may neither wait nor
    /// fail.
    fn mark(&self, mark: Mark<'_>);
}

/// One moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// A client begins an attempt to connect.
    Dialling,
    /// The server has spoken: the client is connected.
    Connected {
        /// Since the attempt began.
        took: Duration,
    },
    /// A client has lost its connection, other than by its own wish.
    Lost,
    /// The server has answered a client's heartbeat.
    HeartbeatAnswered {
        /// Since it was sent.
        took: Duration,
    },
    /// The server was silent for too long.
    HeartbeatMissed,
    /// A peer is asked.
    Asking,
    /// The peer has replied.
    Replied {
        /// Since it was asked.
        took: Duration,
    },
    /// A peer's event has come.
    Asked,
    /// A peer's event was handled.
    Handled {
        /// The method's name, such as `get_time`, made of what the peer has sent.
        method: &'a str,
        /// The reply's code.
        code: u32,
        /// How long the handler took.
        took: Duration,
    },
}

/// Nobody counts.
impl Meter for () {
    fn mark(&self, _: Mark<'_>) {}
}
