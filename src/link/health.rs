//! Whether a link lives: when bytes and heartbeats came, and what the peer may take for that.
//!
//! To note something sets a number of the link's own: no lock, no memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// What a peer may ask its silence limit to be, in milliseconds.
const SILENCE_LIMITS_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// How a link keeps itself alive.
#[derive(Clone, Copy, Debug)]
pub enum HeartbeatMode {
    /// The client's side: sends a heartbeat per interval, and gives the server up after `silence`.
    Sends {
        /// Time between heartbeats.
        interval: Duration,
        /// How long the server may be silent; longer than the interval.
        silence: Duration,
    },
    /// The server's side: answers heartbeats, and gives the client up after this long, unless the
    /// client announces another time.
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

/// The signs of life of a link's peer.
pub(super) struct Health {
    pub mode: HeartbeatMode,
    /// When the link began, for people and for waits.
    pub since: SystemTime,
    started: Instant,
    /// The peer is known well enough to be asked.
    ready: AtomicBool,
    /// See [`LinkParts::takes_over`](super::LinkParts::takes_over); a server's link learns it from the
    /// first heartbeat.
    takes_over: AtomicBool,
    /// Bytes of ciphertext that came.
    received: AtomicU64,
    /// When bytes last came, in milliseconds since the link began.
    last_bytes_ms: AtomicU64,
    /// For how long the peer may be silent, in milliseconds.
    silence_ms: AtomicU64,
    /// When a heartbeat was sent last, in microseconds since the link began.
    beat_us: AtomicU64,
    /// How long the last answer to a heartbeat took, in microseconds; zero: none has come.
    round_trip_us: AtomicU64,
    /// When a heartbeat, or the answer to one, came last; zero: never.
    heartbeat_us: AtomicU64,
}

impl Health {
    /// That of a link that begins.
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

    /// Milliseconds since the link began.
    pub fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// Whether the peer has been found ready.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Notes that the peer is ready. True the first time.
    pub fn set_ready(&self) -> bool {
        !self.ready.swap(true, Ordering::AcqRel)
    }

    /// Whether the client's older link still stands and is ended by the client.
    pub fn takes_over(&self) -> bool {
        self.takes_over.load(Ordering::Relaxed)
    }

    /// The client says so.
    pub fn set_takes_over(&self) {
        self.takes_over.store(true, Ordering::Relaxed);
    }

    /// Bytes came.
    pub fn bytes_came(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
        self.last_bytes_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Bytes of ciphertext that came so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How long the peer may be silent, in milliseconds.
    pub fn silence_ms(&self) -> u64 {
        self.silence_ms.load(Ordering::Relaxed)
    }

    /// When the peer is to be given up, in milliseconds since the link began, if nothing comes until
    /// then.
    pub fn silent_at_ms(&self) -> u64 {
        self.last_bytes_ms.load(Ordering::Relaxed).saturating_add(self.silence_ms())
    }

    /// The peer says how long it may be silent, or says nothing of it. Returns whether that changes
    /// anything.
    pub fn set_silence(&self, announced_ms: Option<u32>) -> bool {
        let silence = announced_ms.map_or_else(
            || millis(self.mode.silence()),
            |ms| u64::from(ms).clamp(*SILENCE_LIMITS_MS.start(), *SILENCE_LIMITS_MS.end()),
        );
        self.silence_ms.swap(silence, Ordering::Relaxed) != silence
    }

    /// Sends a heartbeat by `send`. Its answer may be here before that returns.
    pub fn send_heartbeat(&self, send: impl FnOnce()) {
        self.beat_us.store(self.now_us(), Ordering::Relaxed);
        send();
    }

    /// How long the last answer took, for the next heartbeat to say.
    pub fn round_trip_us(&self) -> Option<u32> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then(|| u32::try_from(us).unwrap_or(u32::MAX))
    }

    /// A heartbeat of the peer's came; it may say how long the answer to the one before took.
    pub fn heartbeat_came(&self, round_trip_us: Option<u32>) {
        if let Some(us) = round_trip_us {
            self.round_trip_us.store(us.into(), Ordering::Relaxed);
        }
        self.heartbeat_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// The answer to ours came. Returns how long it took.
    pub fn heartbeat_answered(&self) -> Duration {
        let now = self.now_us();
        let took = now.saturating_sub(self.beat_us.load(Ordering::Relaxed)).max(1);
        self.round_trip_us.store(took, Ordering::Relaxed);
        self.heartbeat_us.store(now, Ordering::Relaxed);
        Duration::from_micros(took)
    }

    /// How long ago bytes came.
    pub fn silent(&self) -> Duration {
        let last_bytes_us = self.last_bytes_ms.load(Ordering::Relaxed).saturating_mul(1000);
        Duration::from_micros(self.now_us().saturating_sub(last_bytes_us))
    }

    /// How long the last heartbeat took to be answered.
    pub fn round_trip(&self) -> Option<Duration> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// How long ago a heartbeat or the answer to one came.
    pub fn last_heartbeat(&self) -> Option<Duration> {
        let us = self.heartbeat_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(self.now_us().saturating_sub(us)))
    }

    /// Whether a heartbeat was answered lately, in time. The error says in a line why not.
    pub fn check(&self) -> Result<(), String> {
        match self.last_heartbeat() {
            Some(age) if age <= Duration::from_millis(self.silence_ms()) => Ok(()),
            Some(age) => {
                Err(format!("the last heartbeat was answered {:.1} s ago", age.as_secs_f64()))
            }
            None => Err("no heartbeat was answered yet".to_owned()),
        }
    }

    /// Microseconds since the link began; never zero.
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
