//! What happens in a node, reported to those who count it.
//!
//! In scope: the few moments that are worth a number, the trait of those who take them, and counters
//! that cost a request next to nothing. Not in scope: names of metrics and where they go (`statsd`,
//! `metrics`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::{CODE_EXCEPTION, CODE_FINE, CODE_REFUSED, CODE_UNHANDLED};

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
        /// What the reply's code says.
        outcome: RequestOutcome,
        /// Since it was asked.
        took: Duration,
    },
    /// The peer was asked, and there is no reply.
    Unanswered {
        /// Why.
        outcome: RequestOutcome,
    },
    /// Nobody could be asked: the peer is away or unknown.
    NotAsked,
    /// A peer's event has come.
    Asked,
    /// A peer's event is answered that this node is too busy for it, or stopping.
    TurnedAway,
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

/// What became of a request, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The handler answered, with code 0.
    Fine,
    /// It answered with a code of its own.
    Other,
    /// There is no handler.
    Unhandled,
    /// The rules do not allow it.
    Refused,
    /// The handler failed, or was too busy.
    Exception,
    /// The link was lost before the reply came.
    Lost,
    /// No reply in time.
    NoReply,
    /// The caller went away.
    CallerGone,
    /// It could not be sent: too much waits, or the peer cannot take it.
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

    /// By a reply's code.
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

    /// Whether somebody should look into it: neither an answer nor a caller's own wish.
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Exception | Self::Lost | Self::NoReply | Self::NotSent)
    }
}

/// Requests by what became of them.
#[derive(Debug, Default)]
pub struct Outcomes([AtomicU64; RequestOutcome::ALL.len()]);

impl Outcomes {
    /// One more.
    pub fn add(&self, outcome: RequestOutcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// So many so far.
    pub fn get(&self, outcome: RequestOutcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }
}

/// Several who count.
impl Meter for Vec<Arc<dyn Meter>> {
    fn mark(&self, mark: Mark<'_>) {
        self.iter().for_each(|meter| meter.mark(mark));
    }
}

/// Nobody counts.
impl Meter for () {
    fn mark(&self, _: Mark<'_>) {}
}
