//! Whether the connections of one name keep taking it from each other, as those of two machines
//! with one certificate do.

use std::time::{Duration, Instant};

/// So many takeovers ...
pub(super) const MANY: u32 = 3;
/// ... within this time are more than a client that came back before its loss was noticed.
const WITHIN: Duration = Duration::from_secs(60);

/// The takeovers of one name.
#[derive(Clone, Copy, Default)]
pub(super) struct Takeovers {
    since: Option<Instant>,
    count: u32,
}

impl Takeovers {
    /// Notes one. True when they have become many; once in [`WITHIN`].
    pub fn note(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= WITHIN) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count == MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_in_a_short_time_are_told_once() {
        let start = Instant::now();
        let mut takeovers = Takeovers::default();
        let told: Vec<bool> = (0..5).map(|_| takeovers.note(start)).collect();
        assert_eq!(told, [false, false, true, false, false]);
        let told: Vec<bool> = (0..3).map(|_| takeovers.note(start + WITHIN)).collect();
        assert_eq!(told, [false, false, true]);
    }

    #[test]
    fn one_now_and_then_is_nothing() {
        let start = Instant::now();
        let mut takeovers = Takeovers::default();
        assert!((0..20).all(|n| !takeovers.note(start + n * WITHIN / 2)));
    }
}
