//! How long to wait before dialling again.

use std::time::Duration;

/// The first attempt waits up to this long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// No attempt waits longer than this.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);

/// After a connection that worked, the waits go on no higher than from this attempt: the bound is
/// 0.8 s. They do not start over at once: whoever loses each connection soon would be dialled
/// without a pause.
const EASED_ATTEMPTS: u32 = 3;

/// Full jitter: each wait is random between zero and a bound that doubles, so that clients that
/// lost their server together do not reconnect together.
#[derive(Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait. `random` is from 0 to 1.
    pub fn next_wait(&mut self, random: f64) -> Duration {
        let bound = FIRST_WAIT.saturating_mul(1 << self.attempts.min(16)).min(MAX_WAIT);
        self.attempts += 1;
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Goes on with short waits, after a connection that worked.
    pub fn ease(&mut self) {
        self.attempts = self.attempts.min(EASED_ATTEMPTS);
    }

    /// Starts again with the shortest wait, once a link was up for a while.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u128> = (0..11).map(|_| backoff.next_wait(1.0).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(backoff.next_wait(0.5), MAX_WAIT / 2);
        for _ in 0..1000 {
            assert!(backoff.next_wait(1.0) <= MAX_WAIT);
        }
        backoff.ease();
        assert_eq!(backoff.next_wait(1.0).as_millis(), 800);
        backoff.reset();
        backoff.ease();
        assert_eq!(backoff.next_wait(1.0), FIRST_WAIT);
        assert_eq!(backoff.next_wait(0.0), Duration::ZERO);
    }
}
