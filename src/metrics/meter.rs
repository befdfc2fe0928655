//! Events in a node, reported for counting.
//!
//! In scope: the marks, the trait that takes them, and cheap counters. Not in scope: names of
//! metrics and their export (`statsd`, `metrics`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::{CODE_EXCEPTION, CODE_FINE, CODE_REFUSED, CODE_UNHANDLED};

/// Takes the marks of a node.
pub trait Meter: Send + Sync {
    /// Called on the thread where it happened, in the path of every request: must neither block nor
    /// fail.
    fn mark(&self, mark: Mark<'_>);
}

/// One event to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// A client starts an attempt to connect.
    Dialling,
    /// The server's first message arrived: the client is connected.
    Connected {
        /// Since the attempt began.
        took: Duration,
    },
    /// A client lost its connection without closing it.
    Lost,
    /// The server has answered a client's heartbeat.
    HeartbeatAnswered {
        /// Since it was sent.
        took: Duration,
    },
    /// The server was silent for too long.
    HeartbeatMissed,
    /// A request to a peer starts.
    Asking,
    /// The peer replied.
    Replied {
        /// The outcome by the reply's code.
        outcome: RequestOutcome,
        /// Since the request started.
        took: Duration,
    },
    /// A request to a peer got no reply.
    Unanswered {
        /// Why.
        outcome: RequestOutcome,
    },
    /// A request was not sent: the peer is disconnected or unknown.
    NotAsked,
    /// A peer's event arrived.
    Asked,
    /// A peer's event is refused because this node is busy or stopping.
    TurnedAway,
    /// A peer's event was handled.
    Handled {
        /// Its method.
        method: HandledMethod<'a>,
        /// The reply's code.
        code: u32,
        /// How long the handler took.
        took: Duration,
    },
}

/// The method of a peer's event, named by the peer's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandledMethod<'a> {
    /// One that a handler knows, such as `get_time`.
    Known(&'a str),
    /// One that was passed on to a service, which knew it.
    PassedOn(&'a str),
    /// One of which nobody knows whether it exists.
    Unknown,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The handler replied with code 0.
    Fine,
    /// The handler replied with a code of its own.
    Other,
    /// There is no handler.
    Unhandled,
    /// The rules do not allow it.
    Refused,
    /// The handler failed, or was too busy.
    Exception,
    /// The link was lost before the reply came.
    Lost,
    /// No reply within the timeout.
    NoReply,
    /// The caller disconnected.
    CallerGone,
    /// It could not be sent: too many requests wait, or the peer cannot take it.
    NotSent,
}

impl RequestOutcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Fine,
        Self::Other,
        Self::Unhandled,
        Self::Refused,
        Self::Exception,
        Self::Lost,
        Self::NoReply,
        Self::CallerGone,
        Self::NotSent,
    ];

    /// The outcome for a reply's code.
    pub const fn of_code(code: u32) -> Self {
        match code {
            CODE_FINE => Self::Fine,
            CODE_UNHANDLED => Self::Unhandled,
            CODE_REFUSED => Self::Refused,
            CODE_EXCEPTION => Self::Exception,
            _ => Self::Other,
        }
    }

    /// Its name in JSON and metrics, such as `fine` or `no_reply`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Other => "other",
            Self::Unhandled => "unhandled",
            Self::Refused => "refused",
            Self::Exception => "exception",
            Self::Lost => "lost",
            Self::NoReply => "no_reply",
            Self::CallerGone => "caller_gone",
            Self::NotSent => "not_sent",
        }
    }

    /// Whether it is an error: neither a reply nor a caller's cancellation.
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Exception | Self::Lost | Self::NoReply | Self::NotSent)
    }
}

/// Requests by outcome.
#[derive(Debug, Default)]
pub struct Outcomes([AtomicU64; RequestOutcome::ALL.len()]);

impl Outcomes {
    /// Counts one.
    pub fn add(&self, outcome: RequestOutcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self, outcome: RequestOutcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }
}

/// Passes marks to several meters.
impl Meter for Vec<Arc<dyn Meter>> {
    fn mark(&self, mark: Mark<'_>) {
        self.iter().for_each(|meter| meter.mark(mark));
    }
}

/// Ignores marks.
impl Meter for () {
    fn mark(&self, _: Mark<'_>) {}
}
