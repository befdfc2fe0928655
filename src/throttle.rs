//! Keeps a repeated log line from becoming a flood: one line per interval, with the number of
//! those that were left out.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The shortest time between two lines about the same matter.
const INTERVAL: Duration = Duration::from_secs(10);

/// Decides which occurrences are logged.
#[derive(Default)]
pub(crate) struct Throttle {
    /// Guards the two numbers; nothing is done while it is held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Notes one occurrence. `Some(n)`: log it, and say that `n` were left out since the last one.
    pub fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let quiet = state.last.is_some_and(|last| now.duration_since(last) < INTERVAL);
        if quiet {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_with_the_count_of_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.note(start), Some(0));
        assert_eq!(throttle.note(start + INTERVAL / 2), None);
        assert_eq!(throttle.note(start + INTERVAL / 2), None);
        assert_eq!(throttle.note(start + INTERVAL), Some(2));
        assert_eq!(throttle.note(start + INTERVAL), None);
        assert_eq!(throttle.note(start + INTERVAL * 3), Some(1));
    }
}
