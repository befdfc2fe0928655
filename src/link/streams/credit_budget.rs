//! The credit budget shared by all bodies of a link.

use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum bytes granted to all bodies of one link beyond their initial credit.
const MAX_EXTRA_CREDIT: u64 = 32 * 1024 * 1024;

/// What remains of the budget.
pub(super) struct LinkCreditBudget(AtomicU64);

impl Default for LinkCreditBudget {
    fn default() -> Self {
        Self(AtomicU64::new(MAX_EXTRA_CREDIT))
    }
}

impl LinkCreditBudget {
    /// Takes bytes from the budget. False if too few remain.
    pub fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Returns bytes to the budget.
    pub fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
