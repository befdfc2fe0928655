//! What the links of one peer may take together: memory, and handlers. A peer gets no more by
//! connecting again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::held::HeldMemory;
use super::peer_queue::PeerQueue;
use crate::sync::shares::Places;

/// The account of one peer name.
pub(super) struct PeerAccount<J> {
    /// The memory that its events and their bodies take.
    pub held: Arc<HeldMemory>,
    /// Its events that run or wait for a handler.
    pub queue: PeerQueue<J>,
}

/// The accounts of all peers of a node.
pub(super) struct PeerAccounts<J> {
    /// By name, as long as a link or an event uses it. Never held across other work.
    by_name: Mutex<HashMap<String, Weak<PeerAccount<J>>>>,
    /// The handlers that all peers share.
    handlers: Arc<Places>,
}

impl<J> PeerAccounts<J> {
    /// No accounts yet; all will share these handlers.
    pub fn new(handlers: Arc<Places>) -> Self {
        Self { by_name: Mutex::default(), handlers }
    }

    /// The account of this name, with room for bodies of at most `max_data` in memory.
    pub fn of(&self, name: &str, max_data: usize) -> Arc<PeerAccount<J>> {
        let mut by_name = self.by_name.lock();
        if let Some(account) = by_name.get(name).and_then(Weak::upgrade) {
            return account;
        }
        by_name.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(PeerAccount {
            held: Arc::new(HeldMemory::new(max_data)),
            queue: PeerQueue::new(Arc::clone(&self.handlers)),
        });
        by_name.insert(name.to_owned(), Arc::downgrade(&account));
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_account_as_long_as_it_is_used() {
        let accounts = PeerAccounts::<()>::new(Arc::new(Places::new(1, 1)));
        let first = accounts.of("web1", 0);
        assert!(Arc::ptr_eq(&first, &accounts.of("web1", 0)));
        assert!(!Arc::ptr_eq(&first, &accounts.of("web2", 0)));
        drop(first);
        accounts.of("web3", 0);
        assert_eq!(accounts.by_name.lock().len(), 1);
    }
}
