//! A connection that is not yet registered, joined or waiting, and one that was refused.

use std::time::{Duration, Instant};

use socket2::Socket;

use super::refusal::BrokerRefusal;
use crate::net::accept::strangers::{DISPLACED, Stranger};
use crate::remoted::stream::Stream;
use crate::sync::permits::Permit;
use crate::sync::shares::Place;

/// A connection that makes requests.
pub(super) struct Visitor {
    pub stream: Stream,
    /// Its address, for servers and the log.
    pub name: String,
    pub permit: Permit,
    /// Its place among the connections of its key, once it has shown one.
    pub place: Option<Place>,
    /// Present until it has shown a valid key.
    pub stranger: Option<Stranger<Socket>>,
}

impl Visitor {
    /// Called when it has shown a valid key: lifts the time limit for strangers. False if that limit has passed.
    pub fn show_key(&mut self) -> bool {
        self.stranger.take().is_none_or(Stranger::leave)
    }

    /// The deadline of a step that may take this long.
    pub fn deadline(&self, time: Duration) -> Instant {
        let deadline = Instant::now() + time;
        self.stranger.as_ref().map_or(deadline, |stranger| stranger.until.min(deadline))
    }

    /// Why it must be closed, if so: no valid key within `keyless`, or displaced by others.
    pub fn overdue(&self, keyless: Duration) -> Option<String> {
        let stranger = self.stranger.as_ref()?;
        if stranger.is_displaced() {
            return Some(DISPLACED.to_owned());
        }
        let is_late = stranger.until <= Instant::now();
        is_late.then(|| format!("it showed no good key within {keyless:?}"))
    }

    /// Refuses its request.
    pub fn refused(self, refusal: BrokerRefusal) -> Box<RefusedVisitor> {
        Box::new(RefusedVisitor { visitor: self, refusal })
    }
}

/// A connection whose request was refused.
pub(super) struct RefusedVisitor {
    pub visitor: Visitor,
    pub refusal: BrokerRefusal,
}
