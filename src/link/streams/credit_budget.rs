//! How much may be under way to all consumers of a link together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that the bodies of one link may have been granted beyond their first credit.
const MAX_EXTRA_CREDIT: u64 = 32 * 1024 * 1024;

/// What of it is left.
pub(super) struct LinkCreditBudget(AtomicU64);

impl Default for LinkCreditBudget {
    fn default() -> Self {
        Self(AtomicU64::new(MAX_EXTRA_CREDIT))
    }
}

impl LinkCreditBudget {
    /// Takes so many bytes of it. False when there are not as many left.
    pub fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Gives bytes back that were taken.
    pub fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
