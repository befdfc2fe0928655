//! A connection that is neither registered, joined nor waiting yet, and one that was refused.

use std::time::{Duration, Instant};

use socket2::Socket;

use super::refusal::BrokerRefusal;
use crate::net::accept::strangers::{DISPLACED, Stranger};
use crate::remoted::stream::Stream;
use crate::sync::permits::Permit;

/// A connection that makes requests.
pub(super) struct Visitor {
    pub stream: Stream,
    /// Its address, for servers and the log.
    pub name: String,
    pub permit: Permit,
    /// Until it has shown a valid key.
    pub stranger: Option<Stranger<Socket>>,
}

impl Visitor {
    /// It has shown a valid key: the time limit of those without no longer holds. False if that came too
    /// late.
    pub fn show_key(&mut self) -> bool {
        self.stranger.take().is_none_or(Stranger::leave)
    }

    /// The deadline of a step that may take so long.
    pub fn deadline(&self, time: Duration) -> Instant {
        let deadline = Instant::now() + time;
        self.stranger.as_ref().map_or(deadline, |stranger| stranger.until.min(deadline))
    }

    /// Why it must be closed, if it must: it has shown no valid key within `keyless`, or others came.
    pub fn overdue(&self, keyless: Duration) -> Option<String> {
        let stranger = self.stranger.as_ref()?;
        if stranger.is_displaced() {
            return Some(DISPLACED.to_owned());
        }
        let is_late = stranger.until <= Instant::now();
        is_late.then(|| format!("it showed no good key within {keyless:?}"))
    }

    /// It does not get what it asked for.
    pub fn refused(self, refusal: BrokerRefusal) -> Box<RefusedVisitor> {
        Box::new(RefusedVisitor { visitor: self, refusal })
    }
}

/// A connection that did not get what it asked for.
pub(super) struct RefusedVisitor {
    pub visitor: Visitor,
    pub refusal: BrokerRefusal,
}
