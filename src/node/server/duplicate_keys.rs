//! Detects two machines with one key, which keep replacing each other.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Takeovers of one name within [`TAKEOVER_WINDOW`] that are considered normal.
const MAX_NORMAL_TAKEOVERS: usize = 3;
/// The period in which takeovers are counted.
const TAKEOVER_WINDOW: Duration = Duration::from_secs(60);
/// How long a name stays suspect after the last such takeover: a client that backs off reconnects
/// less often and would otherwise be cleared too early.
const SUSPECT_TIME: Duration = Duration::from_secs(300);
/// Maximum names with a history; further names are not watched.
const MAX_NAMES: usize = 4096;

/// Counts takeovers by name.
#[derive(Default)]
pub(super) struct DuplicateKeys {
    /// Guards the histories; never held across I/O.
    names: Mutex<HashMap<String, History>>,
    /// Takeovers between machines with the same key so far.
    found: AtomicU64,
}

/// The verdict on a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takeover {
    /// A client reconnected before its loss was noticed.
    Usual,
    /// Two machines share a key, as far as can be seen: behind one address, an unreliable line looks
    /// the same. That machine's old connection is dead, so it does not learn what is said there.
    DuplicateIdentity,
}

#[derive(Default)]
struct History {
    /// The times of recent takeovers.
    takeovers: VecDeque<Instant>,
    suspect_until: Option<Instant>,
}

impl DuplicateKeys {
    /// Records that a connection of this name replaced one that had not ended.
    pub fn note(&self, name: &str, now: Instant) -> Takeover {
        let mut names = self.names.lock();
        if names.len() >= MAX_NAMES && !names.contains_key(name) {
            names.retain(|_, history| !history.is_over(now));
            if names.len() >= MAX_NAMES {
                return Takeover::Usual;
            }
        }
        let takeover = names.entry(name.to_ascii_lowercase()).or_default().note(now);
        drop(names);
        if takeover == Takeover::DuplicateIdentity {
            self.found.fetch_add(1, Ordering::Relaxed);
        }
        takeover
    }

    /// Takeovers between machines with the same key so far.
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }
}

impl History {
    fn note(&mut self, now: Instant) -> Takeover {
        self.takeovers.push_back(now);
        while self.takeovers.len() > MAX_NORMAL_TAKEOVERS + 1 {
            self.takeovers.pop_front();
        }
        self.takeovers.retain(|at| now.duration_since(*at) < TAKEOVER_WINDOW);
        let many = self.takeovers.len() > MAX_NORMAL_TAKEOVERS;
        let is_suspect = self.suspect_until.is_some_and(|until| now < until);
        if many || is_suspect {
            self.suspect_until = Some(now + SUSPECT_TIME);
            Takeover::DuplicateIdentity
        } else {
            Takeover::Usual
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.suspect_until.is_none_or(|until| now >= until)
            && self.takeovers.iter().all(|at| now.duration_since(*at) >= TAKEOVER_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_fourth_takeover_in_a_minute_is_one_too_many() {
        let (duplicates, start) = (DuplicateKeys::default(), Instant::now());
        let note = |at| duplicates.note("web1", start + secs(at));
        assert_eq!([note(0), note(1), note(2)], [Takeover::Usual; 3]);
        assert_eq!(note(3), Takeover::DuplicateIdentity);
        let other = duplicates.note("web2", start + secs(3));
        assert_eq!(other, Takeover::Usual, "each name has its own count");
        assert_eq!(note(40), Takeover::DuplicateIdentity);
        assert_eq!(note(150), Takeover::DuplicateIdentity, "suspect while it backs off");
        assert_eq!(note(500), Takeover::Usual);
        assert_eq!(duplicates.found(), 3);
    }

    #[test]
    fn slow_changes_are_not_taken_for_duplicates() {
        let (duplicates, start) = (DuplicateKeys::default(), Instant::now());
        for at in 0..20 {
            assert_eq!(duplicates.note("b", start + secs(at * 20)), Takeover::Usual);
        }
    }

    #[test]
    fn the_memory_has_a_bound_and_is_given_back() {
        let (duplicates, start) = (DuplicateKeys::default(), Instant::now());
        for name in 0..2 * MAX_NAMES {
            duplicates.note(&name.to_string(), start);
        }
        assert_eq!(duplicates.names.lock().len(), MAX_NAMES);
        duplicates.note("later", start + 2 * TAKEOVER_WINDOW);
        assert_eq!(duplicates.names.lock().len(), 1);
    }
}
