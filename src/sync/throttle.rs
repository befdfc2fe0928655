//! Limits repeated log lines: one line per interval, with the number of suppressed ones.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two lines about the same subject.
const INTERVAL: Duration = Duration::from_secs(10);

/// Most subjects with an interval of their own.
const MAX_SUBJECTS: usize = 256;

/// Decides which occurrences are logged.
#[derive(Default)]
pub(crate) struct Throttle {
    /// Guards the two numbers; never held across I/O.
    state: Mutex<State>,
}

/// How many lines were suppressed since the last one. Append it to the logged line; displays as
/// nothing if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more since the last such line)"),
        }
    }
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Counts one occurrence. `Some` if it may be logged; append it to the line.
    pub fn allow(&self) -> Option<Suppressed> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<Suppressed> {
        self.state.lock().allow(now)
    }
}

impl State {
    fn is_recent(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) < INTERVAL)
    }

    fn allow(&mut self, now: Instant) -> Option<Suppressed> {
        if self.is_recent(now) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

/// A [`Throttle`] per subject.
#[derive(Default)]
pub(crate) struct Throttles {
    /// Guards the subjects; never held across I/O.
    subjects: Mutex<HashMap<String, State>>,
}

impl Throttles {
    /// As [`Throttle::allow`], for this subject.
    pub fn allow(&self, subject: &str) -> Option<Suppressed> {
        self.allow_at(subject, Instant::now())
    }

    fn allow_at(&self, subject: &str, now: Instant) -> Option<Suppressed> {
        let mut subjects = self.subjects.lock();
        if subjects.len() >= MAX_SUBJECTS && !subjects.contains_key(subject) {
            subjects.retain(|_, state| state.is_recent(now));
        }
        // Beyond the limit all new subjects share an entry.
        let is_known = subjects.contains_key(subject);
        let key = if is_known || subjects.len() < MAX_SUBJECTS { subject } else { "" };
        subjects.entry(key.to_owned()).or_default().allow(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_with_the_count_of_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.allow_at(start), Some(Suppressed(0)));
        assert_eq!(throttle.allow_at(start + INTERVAL / 2), None);
        assert_eq!(throttle.allow_at(start + INTERVAL / 2), None);
        assert_eq!(throttle.allow_at(start + INTERVAL), Some(Suppressed(2)));
        assert_eq!(throttle.allow_at(start + INTERVAL), None);
        assert_eq!(throttle.allow_at(start + INTERVAL * 3), Some(Suppressed(1)));
    }

    #[test]
    fn the_count_ends_the_line() {
        assert_eq!(format!("closed{}", Suppressed(0)), "closed");
        assert_eq!(format!("closed{}", Suppressed(3)), "closed (3 more since the last such line)");
    }

    #[test]
    fn subjects_have_intervals_of_their_own_up_to_a_bound() {
        let throttles = Throttles::default();
        let start = Instant::now();
        assert_eq!(throttles.allow_at("a", start), Some(Suppressed(0)));
        assert_eq!(throttles.allow_at("b", start), Some(Suppressed(0)));
        assert_eq!(throttles.allow_at("a", start), None);
        assert_eq!(throttles.allow_at("a", start + INTERVAL), Some(Suppressed(1)));
        let is_shown = |n: &i32| throttles.allow_at(&n.to_string(), start).is_some();
        assert_eq!((0..1000).filter(is_shown).count(), MAX_SUBJECTS - 2 + 1);
        assert_eq!(throttles.allow_at("c", start + INTERVAL * 2), Some(Suppressed(0)));
        assert!(throttles.subjects.lock().len() < 5);
    }
}
