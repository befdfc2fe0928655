//! Outstanding requests on one link.

use std::collections::HashMap;

/// Random ids start here, as in the original.
const FIRST_ID: u32 = 1_000_000_000;

/// Outstanding requests by id. `W` is the handle that the requester waits on.
pub struct PendingTable<W> {
    entries: HashMap<u32, Entry<W>>,
    most: usize,
    closed: bool,
    /// Whether the end of the last request has yet to be reported; see
    /// [`PendingTable::take_drained`].
    reports_drained: bool,
}

struct Entry<W> {
    waiter: W,
    written: bool,
}

/// Why a request cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// Too many outstanding requests.
    Full,
    /// The link has ended, or its peer is stopping.
    Closed,
}

impl<W> PendingTable<W> {
    /// An empty table for at most `most` requests.
    pub fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), most, closed: false, reports_drained: false }
    }

    /// Registers the waiter under a new random id.
    pub fn register(&mut self, waiter: W) -> Result<u32, RegisterError> {
        if self.closed {
            return Err(RegisterError::Closed);
        }
        if self.entries.len() >= self.most {
            return Err(RegisterError::Full);
        }
        // The table is far smaller than the id range, so a free id is found quickly.
        let id = loop {
            let id = fastrand::u32(FIRST_ID..);
            if !self.entries.contains_key(&id) {
                break id;
            }
        };
        self.entries.insert(id, Entry { waiter, written: false });
        Ok(id)
    }

    /// Records that the request may reach the peer from now on. False if nobody waits for it, so
    /// that it need not be sent.
    pub fn mark_written(&mut self, id: u32) -> bool {
        self.entries.get_mut(&id).map(|entry| entry.written = true).is_some()
    }

    /// Accepts no more requests; outstanding ones still wait for their replies.
    pub fn hold(&mut self) {
        self.closed = true;
        self.reports_drained = true;
    }

    /// Whether, after [`PendingTable::hold`], no request is outstanding. True once.
    pub fn take_drained(&mut self) -> bool {
        let is_drained = self.reports_drained && self.entries.is_empty();
        self.reports_drained &= !is_drained;
        is_drained
    }

    /// Removes and returns the waiter with this id, and whether the request was written; `None` if
    /// nobody waits.
    pub fn take(&mut self, id: u32) -> Option<(W, bool)> {
        self.entries.remove(&id).map(|entry| (entry.waiter, entry.written))
    }

    /// Removes and returns all waiters, and accepts no more.
    pub fn close(&mut self) -> Vec<(W, bool)> {
        self.closed = true;
        self.entries.drain().map(|(_, entry)| (entry.waiter, entry.written)).collect()
    }

    /// Number of outstanding requests.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_taken_once_and_knows_whether_it_was_written() {
        let mut pending = PendingTable::new(2);
        let first = pending.register("first").unwrap();
        let second = pending.register("second").unwrap();
        assert_eq!(pending.register("third"), Err(RegisterError::Full));
        assert!(first >= FIRST_ID && second >= FIRST_ID && first != second);
        assert!(pending.mark_written(first));
        assert_eq!(pending.take(first), Some(("first", true)));
        assert_eq!(pending.take(first), None);
        assert!(!pending.mark_written(first));
        assert_eq!(pending.close(), [("second", false)]);
        assert_eq!(pending.register("late"), Err(RegisterError::Closed));
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn the_last_that_ends_after_a_hold_is_reported_once() {
        let mut pending = PendingTable::new(2);
        assert!(!pending.take_drained(), "nobody is stopping");
        let id = pending.register(()).unwrap();
        pending.hold();
        assert_eq!(pending.register(()), Err(RegisterError::Closed));
        assert!(!pending.take_drained(), "one waits");
        pending.take(id);
        assert!(pending.take_drained());
        assert!(!pending.take_drained());
    }
}
