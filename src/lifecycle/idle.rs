//! When a server without clients reports `idle`.

use std::time::{Duration, Instant};

/// How long without clients until the first report, and the interval between reports.
const IDLE_PERIOD: Duration = Duration::from_secs(60);

/// A timer that takes the time as an argument.
pub(super) struct IdleTimer {
    due: Option<Instant>,
}

impl IdleTimer {
    /// First due after one minute.
    pub fn new(now: Instant) -> Self {
        Self { due: Some(now + IDLE_PERIOD) }
    }

    /// A timer that never fires, for clients.
    pub fn never() -> Self {
        Self { due: None }
    }

    /// Restarts the minute: a client connected or disconnected.
    pub fn begin(&mut self, now: Instant) {
        if let Some(due) = &mut self.due {
            *due = now + IDLE_PERIOD;
        }
    }

    /// Time until the timer is due.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// Whether a minute has passed; if so, starts the next one.
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
        // Periods missed during sleep are not caught up on.
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
