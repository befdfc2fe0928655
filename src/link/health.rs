//! Whether a link is alive: when bytes and heartbeats arrived, and how long the peer may be silent.
//!
//! Recording an event sets an atomic; it takes no lock and allocates nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The silence limits that a peer may request, in milliseconds: up to the longest that a client can
/// be configured with, two hours.
const SILENCE_LIMITS_MS: std::ops::RangeInclusive<u64> = 100..=7_200_000;

/// How a link keeps itself alive.
#[derive(Clone, Copy, Debug)]
pub enum HeartbeatMode {
    /// The client: sends heartbeats at `interval`, and gives the server up after `silence`.
    Sends {
        /// Time between heartbeats.
        interval: Duration,
        /// How long the server may be silent; longer than the interval.
        silence: Duration,
    },
    /// The server: answers heartbeats, and gives the client up after `silence`, unless the client
    /// announces its own limit.
    Answers {
        /// How long the client may be silent.
        silence: Duration,
    },
}

impl HeartbeatMode {
    /// Whether this side is the client.
    pub(super) const fn sends(self) -> bool {
        matches!(self, Self::Sends { .. })
    }

    /// How long the peer may be silent.
    const fn silence(self) -> Duration {
        match self {
            Self::Sends { silence, .. } | Self::Answers { silence } => silence,
        }
    }
}

/// The peer's signs of life.
pub(super) struct Health {
    pub mode: HeartbeatMode,
    /// When the link was established, for display; `started` is for waits.
    pub since: SystemTime,
    started: Instant,
    /// The peer is ready for requests.
    ready: AtomicBool,
    /// See [`LinkParts::takes_over`](super::LinkParts::takes_over); a server learns it from the
    /// first heartbeat.
    takes_over: AtomicBool,
    /// Bytes of ciphertext received.
    received: AtomicU64,
    /// When bytes last arrived, in milliseconds since the start of the link.
    last_bytes_ms: AtomicU64,
    /// How long the peer may be silent, in milliseconds.
    silence_ms: AtomicU64,
    /// When a heartbeat was last sent, in microseconds since the start of the link.
    beat_us: AtomicU64,
    /// Round-trip time of the last heartbeat, in microseconds; zero if there is none yet.
    round_trip_us: AtomicU64,
    /// When a heartbeat or its reply last arrived, in microseconds; zero if never.
    heartbeat_us: AtomicU64,
}

impl Health {
    /// The state of a new link.
    pub fn new(mode: HeartbeatMode, takes_over: bool) -> Self {
        Self {
            mode,
            since: SystemTime::now(),
            started: Instant::now(),
            ready: AtomicBool::new(false),
            takes_over: AtomicBool::new(takes_over),
            received: AtomicU64::new(0),
            last_bytes_ms: AtomicU64::new(0),
            silence_ms: AtomicU64::new(millis(mode.silence())),
            beat_us: AtomicU64::new(0),
            round_trip_us: AtomicU64::new(0),
            heartbeat_us: AtomicU64::new(0),
        }
    }

    /// Milliseconds since the start of the link.
    pub fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// Whether the peer is known to be ready.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Marks the peer ready. True the first time.
    pub fn set_ready(&self) -> bool {
        !self.ready.swap(true, Ordering::AcqRel)
    }

    /// Whether an older link of this client is still open and left to the client to close.
    pub fn takes_over(&self) -> bool {
        self.takes_over.load(Ordering::Relaxed)
    }

    /// Notes that the client announced a takeover.
    pub fn set_takes_over(&self) {
        self.takes_over.store(true, Ordering::Relaxed);
    }

    /// Records received bytes.
    pub fn bytes_came(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
        self.last_bytes_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Bytes of ciphertext received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How long the peer may be silent, in milliseconds.
    pub fn silence_ms(&self) -> u64 {
        self.silence_ms.load(Ordering::Relaxed)
    }

    /// When to give the peer up if nothing arrives until then, in milliseconds since the start of
    /// the link.
    pub fn silent_at_ms(&self) -> u64 {
        self.last_bytes_ms.load(Ordering::Relaxed).saturating_add(self.silence_ms())
    }

    /// Applies the silence limit that the peer announced, if any. Returns whether the limit
    /// changed.
    pub fn set_silence(&self, announced_ms: Option<u32>) -> bool {
        let silence = announced_ms.map_or_else(
            || millis(self.mode.silence()),
            |ms| u64::from(ms).clamp(*SILENCE_LIMITS_MS.start(), *SILENCE_LIMITS_MS.end()),
        );
        self.silence_ms.swap(silence, Ordering::Relaxed) != silence
    }

    /// Sends a heartbeat with `send`. The reply may arrive before `send` returns.
    pub fn send_heartbeat(&self, send: impl FnOnce()) {
        self.beat_us.store(self.now_us(), Ordering::Relaxed);
        send();
    }

    /// Round-trip time of the last heartbeat, to report in the next one.
    pub fn round_trip_us(&self) -> Option<u32> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then(|| u32::try_from(us).unwrap_or(u32::MAX))
    }

    /// Records a heartbeat from the peer, which may carry the previous round-trip time.
    pub fn heartbeat_came(&self, round_trip_us: Option<u32>) {
        if let Some(us) = round_trip_us {
            self.round_trip_us.store(us.into(), Ordering::Relaxed);
        }
        self.heartbeat_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// Records the reply to our heartbeat. Returns the round-trip time.
    pub fn heartbeat_answered(&self) -> Duration {
        let now = self.now_us();
        let took = now.saturating_sub(self.beat_us.load(Ordering::Relaxed)).max(1);
        self.round_trip_us.store(took, Ordering::Relaxed);
        self.heartbeat_us.store(now, Ordering::Relaxed);
        Duration::from_micros(took)
    }

    /// Time since bytes last arrived.
    pub fn silent(&self) -> Duration {
        let last_bytes_us = self.last_bytes_ms.load(Ordering::Relaxed).saturating_mul(1000);
        Duration::from_micros(self.now_us().saturating_sub(last_bytes_us))
    }

    /// Round-trip time of the last heartbeat.
    pub fn round_trip(&self) -> Option<Duration> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// Time since the last heartbeat or heartbeat reply arrived.
    pub fn last_heartbeat(&self) -> Option<Duration> {
        let us = self.heartbeat_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(self.now_us().saturating_sub(us)))
    }

    /// Whether the last heartbeat was answered in time. The error says in one line why not.
    pub fn check(&self) -> Result<(), String> {
        match self.last_heartbeat() {
            Some(age) if age <= Duration::from_millis(self.silence_ms()) => Ok(()),
            Some(age) => {
                Err(format!("the last heartbeat was answered {:.1} s ago", age.as_secs_f64()))
            }
            None => Err("no heartbeat was answered yet".to_owned()),
        }
    }

    /// Microseconds since the start of the link; never zero.
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }
}

/// A time in whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_quicker_than_the_sender_is_timed_from_its_own_heartbeat() {
        let Some(started) = Instant::now().checked_sub(Duration::from_secs(60)) else { return };
        let mode = HeartbeatMode::Answers { silence: Duration::from_secs(1) };
        let health = Health { started, ..Health::new(mode, false) };
        let mut took = Duration::MAX;
        health.send_heartbeat(|| took = health.heartbeat_answered());
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert_eq!(health.round_trip_us(), u32::try_from(took.as_micros()).ok());
    }
}
