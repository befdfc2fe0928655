//! Places that several holders share, so that none takes them all.
//!
//! A holder gets another place only while it has fewer than are free, or than a multiple of those:
//! one alone gets half of them, two a third each, and one place is always left for the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A number of places, and how many are taken. Each holder counts its own.
#[derive(Debug)]
pub(crate) struct Places {
    all: usize,
    most_each: usize,
    weight: usize,
    taken: AtomicUsize,
}

impl Places {
    /// So many places, of which a holder gets at most `most_each`.
    pub fn new(all: usize, most_each: usize) -> Self {
        Self { all, most_each, weight: 1, taken: AtomicUsize::new(0) }
    }

    /// A holder may have so many times as many as are free: with 8, one alone gets eight ninths.
    pub fn with_weight(self, weight: usize) -> Self {
        Self { weight, ..self }
    }

    /// Takes a place for a holder that has `own` already. False if it has its share.
    pub fn take(&self, own: usize) -> bool {
        let take = |taken| (own < self.weight * (self.all - taken)).then_some(taken + 1);
        own < self.most_each
            && self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Whether a holder may use one of its places further that has `others` beside it.
    pub fn may_keep(&self, others: usize) -> bool {
        others < self.most_each && others < self.weight * (self.all - (self.taken() - 1))
    }

    /// Returns a place.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Places of holders that are known by their names.
#[derive(Debug)]
pub(crate) struct Shares {
    places: Places,
    /// The places of each holder that has any; never held across other work.
    holders: Mutex<HashMap<String, usize>>,
}

impl Shares {
    /// Holders of these places.
    pub fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { places, holders: Mutex::default() })
    }

    /// Takes a place for this holder; `None` if it has its share.
    pub fn take(self: &Arc<Self>, holder: &str) -> Option<Place> {
        let mut holders = self.holders.lock();
        let own = holders.get(holder).copied().unwrap_or(0);
        self.places.take(own).then(|| {
            holders.insert(holder.to_owned(), own + 1);
            Place { of: Arc::clone(self), holder: holder.to_owned() }
        })
    }

    /// Places that are taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.places.taken()
    }
}

/// A place that is taken; dropping it returns it.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Shares>,
    holder: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut holders = self.of.holders.lock();
        if let Some(own) = holders.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                holders.remove(&self.holder);
            }
        }
        self.of.places.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &Arc<Shares>, holder: &str) -> Vec<Place> {
        std::iter::from_fn(|| shares.take(holder)).collect()
    }

    #[test]
    fn each_gets_less_and_one_is_left_for_the_next() {
        let shares = Shares::new(Places::new(64, usize::MAX));
        let counts: Vec<usize> = ["a", "b", "c", "d", "e", "f", "g"]
            .map(|holder| {
                let taken = take_all(&shares, holder);
                let count = taken.len();
                std::mem::forget(taken);
                count
            })
            .to_vec();
        assert_eq!(counts, [32, 16, 8, 4, 2, 1, 1]);
        assert!(shares.take("h").is_none(), "only now none is left");
    }

    #[test]
    fn with_a_weight_one_alone_gets_nearly_all_and_the_next_still_some() {
        let shares = Shares::new(Places::new(90, usize::MAX).with_weight(8));
        let first = take_all(&shares, "first");
        let second = take_all(&shares, "second");
        assert_eq!((first.len(), second.len()), (80, 9));
        assert!(shares.take("third").is_some());
        let few = Shares::new(Places::new(8, usize::MAX).with_weight(8));
        assert_eq!(take_all(&few, "only").len(), 8);
    }

    #[test]
    fn a_place_that_is_returned_is_anybodys() {
        let shares = Shares::new(Places::new(4, usize::MAX));
        let first = take_all(&shares, "first");
        let second = shares.take("second").unwrap();
        assert_eq!((first.len(), shares.taken()), (2, 3));
        assert!(shares.take("first").is_none());
        drop(first);
        assert_eq!(take_all(&shares, "third").len(), 2);
        drop(second);
        assert_eq!(shares.taken(), 0);
        assert!(shares.holders.lock().is_empty());
    }

    #[test]
    fn no_one_gets_more_than_the_most() {
        assert_eq!(take_all(&Shares::new(Places::new(128, 64)), "a").len(), 64);
        assert_eq!(take_all(&Shares::new(Places::new(1, 64)), "a").len(), 1);
    }
}
