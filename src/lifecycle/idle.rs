//! When a server without clients says so.

use std::time::{Duration, Instant};

/// The time without clients after which, and how often, it does.
const IDLE_PERIOD: Duration = Duration::from_secs(60);

/// The time is an argument.
pub(super) struct IdleTimer {
    due: Option<Instant>,
}

impl IdleTimer {
    /// The first time in a minute.
    pub fn new(now: Instant) -> Self {
        Self { due: Some(now + IDLE_PERIOD) }
    }

    /// For clients.
    pub fn never() -> Self {
        Self { due: None }
    }

    /// A client came or went: the minute begins anew.
    pub fn begin(&mut self, now: Instant) {
        if let Some(due) = &mut self.due {
            *due = now + IDLE_PERIOD;
        }
    }

    /// How long it is until the next time.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// Whether a minute has passed; then the next one begins.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.begin(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_counted_from_the_last_change() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut idle = IdleTimer::new(start);
        assert_eq!(idle.wait(at(59)), Some(Duration::from_secs(1)));
        assert!(!idle.is_due(at(59)));
        assert!(idle.is_due(at(60)));
        assert!(!idle.is_due(at(119)));
        assert!(idle.is_due(at(120)));
        idle.begin(at(130));
        assert!(!idle.is_due(at(189)));
        assert_eq!(idle.wait(at(200)), Some(Duration::ZERO));
        assert!(idle.is_due(at(200)));
        // What was slept through is not made up for.
        assert!(!idle.is_due(at(259)));
        assert!(idle.is_due(at(260)));
    }

    #[test]
    fn a_client_never_is() {
        let start = Instant::now();
        let mut idle = IdleTimer::never();
        idle.begin(start);
        assert_eq!(idle.wait(start), None);
        assert!(!idle.is_due(start + IDLE_PERIOD * 100));
    }
}
