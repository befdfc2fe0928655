//! What is counted on a link, and what of it can be seen from outside.
//!
//! Counting adds to a number of the link's own: no lock, no memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::{Link, lock};
use crate::metrics::meter::Outcomes;
use crate::wire::Capabilities;

/// The counters of a link.
pub(super) struct Counts {
    since: SystemTime,
    /// What this side asked.
    pub asked: Outcomes,
    /// What the peer asked.
    pub handled: Outcomes,
    received: AtomicU64,
    /// When a heartbeat was sent last, in microseconds since the link began.
    beat_us: AtomicU64,
    /// How long the last answer to a heartbeat took, in microseconds; zero: none has come.
    round_trip_us: AtomicU64,
    /// When a heartbeat, or the answer to one, came last; zero: never.
    pulse_us: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            since: SystemTime::now(),
            asked: Outcomes::default(),
            handled: Outcomes::default(),
            received: AtomicU64::new(0),
            beat_us: AtomicU64::new(0),
            round_trip_us: AtomicU64::new(0),
            pulse_us: AtomicU64::new(0),
        }
    }
}

impl Counts {
    /// Bytes came.
    pub fn received(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Sends a heartbeat by `send`. Its answer may be here before that returns.
    pub fn heartbeat(&self, started: Instant, send: impl FnOnce()) {
        self.beat_us.store(micros(started), Ordering::Relaxed);
        send();
    }

    /// How long the last answer took, for the next heartbeat to say.
    pub fn round_trip_us(&self) -> Option<u32> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then(|| u32::try_from(us).unwrap_or(u32::MAX))
    }

    /// A heartbeat of the peer's came; it may say how long the answer to the one before took.
    pub fn heartbeat_came(&self, started: Instant, round_trip_us: Option<u32>) {
        if let Some(us) = round_trip_us {
            self.round_trip_us.store(us.into(), Ordering::Relaxed);
        }
        self.pulse_us.store(micros(started), Ordering::Relaxed);
    }

    /// The answer to ours came. Returns how long it took.
    pub fn heartbeat_answered(&self, started: Instant) -> Duration {
        let now = micros(started);
        let took = now.saturating_sub(self.beat_us.load(Ordering::Relaxed)).max(1);
        self.round_trip_us.store(took, Ordering::Relaxed);
        self.pulse_us.store(now, Ordering::Relaxed);
        Duration::from_micros(took)
    }
}

/// Never zero.
fn micros(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}

/// A link at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// When it began.
    pub since: SystemTime,
    /// How long ago bytes came.
    pub silent: Duration,
    /// How long the last heartbeat took to be answered; on a server as the client says, one heartbeat
    /// later.
    pub round_trip: Option<Duration>,
    /// How long ago a heartbeat or the answer to one came.
    pub pulse: Option<Duration>,
    /// What is under way, and what has passed.
    pub traffic: Traffic,
    /// What may be said to the peer.
    pub capabilities: Capabilities,
}

/// What is under way on a link, and what has passed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Traffic {
    /// Requests to the peer that wait for their replies.
    pub in_flight: usize,
    /// The peer's requests that are being handled, or wait for it.
    pub handling: usize,
    /// Those of them that wait for another of the same peer to end.
    pub waiting: usize,
    /// Messages that wait to be written.
    pub unsent: usize,
    /// Bodies in pieces, both ways, with the connections that are carried.
    pub streams: usize,
    /// Bytes of ciphertext that came.
    pub bytes_in: u64,
    /// Bytes of ciphertext that went.
    pub bytes_out: u64,
}

impl Link {
    /// How it is now.
    pub fn figures(&self) -> Figures {
        let now_us = micros(self.started);
        let ago = |us: u64| Duration::from_micros(now_us.saturating_sub(us));
        let said = |us: &AtomicU64| Some(us.load(Ordering::Relaxed)).filter(|us| *us > 0);
        let heard_us = self.heard_ms.load(Ordering::Relaxed).saturating_mul(1000);
        Figures {
            since: self.counts.since,
            silent: ago(heard_us),
            round_trip: said(&self.counts.round_trip_us).map(Duration::from_micros),
            pulse: said(&self.counts.pulse_us).map(ago),
            traffic: Traffic {
                in_flight: lock(&self.pending).len(),
                handling: lock(&self.handling).len(),
                waiting: self.turns.waiting(),
                unsent: self.output.waiting(),
                streams: self.streams.len(),
                bytes_in: self.counts.received.load(Ordering::Relaxed),
                bytes_out: self.output.sent(),
            },
            capabilities: self.capabilities(),
        }
    }

    /// When it began.
    pub fn since(&self) -> SystemTime {
        self.counts.since
    }

    /// Whether a round trip worked lately: the last heartbeat was answered, in time. The error says
    /// in a line why not. Only for the side that sends heartbeats.
    pub fn is_well(&self) -> Result<(), String> {
        let silence = Duration::from_millis(self.silence_ms.load(Ordering::Relaxed));
        match self.figures().pulse {
            Some(age) if age <= silence => Ok(()),
            Some(age) => {
                Err(format!("the last heartbeat was answered {:.1} s ago", age.as_secs_f64()))
            }
            None => Err("no heartbeat was answered yet".to_owned()),
        }
    }

    /// Bytes of ciphertext that came and went.
    pub fn bytes(&self) -> (u64, u64) {
        (self.counts.received.load(Ordering::Relaxed), self.output.sent())
    }

    /// What this side has asked on it, by what became of that.
    pub fn asked(&self) -> &Outcomes {
        &self.counts.asked
    }

    /// What the peer has asked on it, by what became of that.
    pub fn served(&self) -> &Outcomes {
        &self.counts.handled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_quicker_than_the_sender_is_timed_from_its_own_heartbeat() {
        let Some(started) = Instant::now().checked_sub(Duration::from_secs(60)) else { return };
        let counts = Counts::default();
        let mut took = Duration::MAX;
        counts.heartbeat(started, || took = counts.heartbeat_answered(started));
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert_eq!(counts.round_trip_us(), u32::try_from(took.as_micros()).ok());
    }
}
