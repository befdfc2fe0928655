//! When a server without clients says so.

use std::time::{Duration, Instant};

/// How often.
const PERIOD: Duration = Duration::from_secs(60);

/// A clock of its own: the time comes in.
pub(super) struct Idle {
    due: Option<Instant>,
}

impl Idle {
    /// The first time in a minute.
    pub fn new(now: Instant) -> Self {
        Self { due: Some(now + PERIOD) }
    }

    /// For clients.
    pub fn never() -> Self {
        Self { due: None }
    }

    /// A client came or went: the minute begins anew.
    pub fn begin(&mut self, now: Instant) {
        if let Some(due) = &mut self.due {
            *due = now + PERIOD;
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
        let mut idle = Idle::new(start);
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
        let mut idle = Idle::never();
        idle.begin(start);
        assert_eq!(idle.wait(start), None);
        assert!(!idle.is_due(start + PERIOD * 100));
    }
}
