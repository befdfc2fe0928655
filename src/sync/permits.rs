//! A limit on concurrent uses, and waiting until there are none.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A fixed number of permits.
#[derive(Debug)]
pub(crate) struct Permits {
    max: usize,
    /// Guards the count of taken permits; never held across other work.
    taken: Mutex<usize>,
    /// Notified when the last permit is returned.
    empty: Condvar,
}

impl Permits {
    /// At most `max` at once.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::new(0), empty: Condvar::new() })
    }

    /// Without a limit, for counting only: `take` always returns a permit.
    pub fn unbounded() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// Takes a permit; `None` if all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let mut taken = self.taken.lock();
        (*taken < self.max).then(|| {
            *taken += 1;
            Permit(Arc::clone(self))
        })
    }

    /// Waits until all permits are returned. Returns how many are still taken at `deadline`.
    pub fn wait_empty(&self, deadline: Instant) -> usize {
        let mut taken = self.taken.lock();
        self.empty.wait_while_until(&mut taken, |taken| *taken > 0, deadline);
        *taken
    }
}

/// A permit that is taken; dropping it returns it.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock();
        *taken -= 1;
        if *taken == 0 {
            self.0.empty.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_permit_can_be_taken_again_once_it_is_returned() {
        let permits = Permits::new(2);
        let (one, two) = (permits.take(), permits.take());
        assert!(one.is_some() && two.is_some());
        assert!(permits.take().is_none());
        assert_eq!(permits.wait_empty(Instant::now()), 2);
        drop(one);
        assert!(permits.take().is_some());
        drop(two);
        assert_eq!(permits.wait_empty(Instant::now()), 0);
    }

    #[test]
    fn the_last_permit_that_is_returned_ends_the_wait() {
        let permits = Permits::new(2);
        let permit = permits.take().unwrap();
        let returning = std::thread::spawn(move || drop(permit));
        assert_eq!(permits.wait_empty(Instant::now() + Duration::from_secs(30)), 0);
        returning.join().unwrap();
    }

    #[test]
    fn without_a_bound_they_are_only_counted() {
        let permits = Permits::unbounded();
        let taken: Vec<Permit> = (0..100).map_while(|_| permits.take()).collect();
        assert_eq!(permits.wait_empty(Instant::now()), 100);
        drop(taken);
        assert_eq!(permits.wait_empty(Instant::now()), 0);
    }
}
