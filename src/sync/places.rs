//! A bound on how many of something there are at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// So many places, and how many are taken.
#[derive(Debug)]
pub(crate) struct Places {
    all: usize,
    /// Guards the count. Held for moments.
    taken: Mutex<usize>,
    /// The last one was left.
    empty: Condvar,
}

impl Places {
    pub fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { all, taken: Mutex::new(0), empty: Condvar::new() })
    }

    /// One of them until it is dropped; none where all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.lock();
        (*taken < self.all).then(|| {
            *taken += 1;
            Place(Arc::clone(self))
        })
    }

    /// Waits until all are left, for at most `time`. Returns how many are not.
    pub fn wait_empty(&self, time: Duration) -> usize {
        let mut taken = self.lock();
        self.empty.wait_while_for(&mut taken, |taken| *taken > 0, time);
        *taken
    }

    /// Gives the connections of these places this long to end, and tells of those that have not.
    pub fn drain(&self, time: Duration) {
        let left = self.wait_empty(time);
        if left > 0 {
            log::warn!("{left} connections were still open and are broken off");
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.taken.lock()
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.lock();
        *taken -= 1;
        if *taken == 0 {
            self.0.empty.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let places = Places::new(2);
        let (one, two) = (places.take(), places.take());
        assert!(one.is_some() && two.is_some());
        assert!(places.take().is_none());
        assert_eq!(places.wait_empty(Duration::ZERO), 2);
        drop(one);
        assert!(places.take().is_some());
        drop(two);
        assert_eq!(places.wait_empty(Duration::ZERO), 0);
    }

    #[test]
    fn whoever_waits_learns_of_the_last_that_is_left() {
        let places = Places::new(2);
        let place = places.take().unwrap();
        let leaving = std::thread::spawn(move || drop(place));
        assert_eq!(places.wait_empty(Duration::from_secs(30)), 0);
        leaving.join().unwrap();
    }
}
