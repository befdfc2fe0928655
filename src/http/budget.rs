//! Bounds the bytes of request bodies that all connections hold together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that may be held, and those that are.
pub(super) struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    /// Nothing held yet.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    /// A share of nothing, to be grown as bytes arrive.
    pub fn share(&self) -> Share<'_> {
        Share { budget: self, bytes: 0 }
    }
}

/// What one request holds; given back when dropped.
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Share<'_> {
    /// Holds `total` bytes from now on, if it holds fewer. `false` where all connections together
    /// would hold too many; then the share is as before.
    pub fn grow_to(&mut self, total: usize) -> bool {
        let more = total.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let limit = self.budget.limit;
        let grown = self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|sum| *sum <= limit)
        });
        if grown.is_ok() {
            self.bytes = total;
        }
        grown.is_ok()
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.share();
        let mut second = budget.share();
        assert!(first.grow_to(6));
        assert!(first.grow_to(4), "already held");
        assert!(second.grow_to(4));
        assert!(!second.grow_to(5));
        drop(first);
        assert!(second.grow_to(10));
        drop(second);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
