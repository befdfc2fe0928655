//! Keeps a repeated log line from becoming a flood: one line per interval, with the number of
//! those that were left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two lines about the same matter.
const INTERVAL: Duration = Duration::from_secs(10);

/// Most matters that are told apart.
const MAX_MATTERS: usize = 256;

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
        self.state.lock().note(now)
    }
}

impl State {
    fn note(&mut self, now: Instant) -> Option<u64> {
        let quiet = self.last.is_some_and(|last| now.duration_since(last) < INTERVAL);
        if quiet {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A [`Throttle`] for each matter, so that one does not hide another.
#[derive(Default)]
pub(crate) struct Throttles {
    /// Guards the matters; nothing is done while it is held.
    matters: Mutex<HashMap<String, State>>,
}

impl Throttles {
    /// As [`Throttle::note`], about this matter.
    pub fn note(&self, matter: &str, now: Instant) -> Option<u64> {
        let mut matters = self.matters.lock();
        if matters.len() >= MAX_MATTERS && !matters.contains_key(matter) {
            let is_recent =
                |state: &State| state.last.is_some_and(|last| now.duration_since(last) < INTERVAL);
            matters.retain(|_, state| is_recent(state));
        }
        // Beyond the bound all new ones share a place.
        let is_known = matters.contains_key(matter);
        let key = if is_known || matters.len() < MAX_MATTERS { matter } else { "" };
        matters.entry(key.to_owned()).or_default().note(now)
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

    #[test]
    fn matters_are_told_apart_up_to_a_bound() {
        let throttles = Throttles::default();
        let start = Instant::now();
        assert_eq!(throttles.note("a", start), Some(0));
        assert_eq!(throttles.note("b", start), Some(0));
        assert_eq!(throttles.note("a", start), None);
        assert_eq!(throttles.note("a", start + INTERVAL), Some(1));
        let shown = (0..1000).filter(|n| throttles.note(&n.to_string(), start).is_some()).count();
        assert_eq!(shown, MAX_MATTERS - 2 + 1);
        assert_eq!(throttles.note("c", start + INTERVAL * 2), Some(0));
        assert!(throttles.matters.lock().len() < 5);
    }
}
