//! Recent requests and errors: totals sampled at equal intervals, for a graph.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Totals of requests and errors, one sample per interval.
pub(super) struct History {
    every: Duration,
    most: usize,
    /// Both values only grow.
    sums: VecDeque<(u64, u64)>,
    noted: Instant,
}

/// Requests and errors of each interval, oldest first.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Steps {
    every_s: u64,
    requests: Vec<u64>,
    errors: Vec<u64>,
}

impl History {
    /// An empty history that keeps the last `most` intervals of length `every`.
    pub fn new(every: Duration, most: usize, now: Instant) -> Self {
        Self { every, most, sums: VecDeque::from([(0, 0)]), noted: now }
    }

    /// Takes a sample when one is due. To be called about once a second.
    pub fn note(&mut self, now: Instant, sums: impl FnOnce() -> (u64, u64)) {
        if now.saturating_duration_since(self.noted) < self.every {
            return;
        }
        self.noted = now;
        self.sums.push_back(sums());
        if self.sums.len() > self.most + 1 {
            self.sums.pop_front();
        }
    }

    /// Requests and errors of each interval.
    pub fn steps(&self) -> Steps {
        let steps = |sum: fn(&(u64, u64)) -> u64| -> Vec<u64> {
            let sums = self.sums.iter().map(sum);
            sums.clone().zip(sums.skip(1)).map(|(old, new)| new.saturating_sub(old)).collect()
        };
        Steps {
            every_s: self.every.as_secs(),
            requests: steps(|sum| sum.0),
            errors: steps(|sum| sum.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_steps_are_kept_each_with_what_came_in_it() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(5), 3, start);
        let sums = [(9, 9), (2, 1), (9, 9), (2, 1), (5, 1), (7, 4)];
        for (at, sums) in [4, 5, 9, 10, 15, 20].into_iter().zip(sums) {
            history.note(start + Duration::from_secs(at), || sums);
        }
        let expected = Steps { every_s: 5, requests: vec![0, 3, 2], errors: vec![0, 0, 3] };
        assert_eq!(history.steps(), expected);
    }
}
