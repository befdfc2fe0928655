//! The requests of this side that wait for their replies on a link.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::closing::{Closing, FragileMutex};
use super::end::LinkEnd;
use super::transport::Transport;
use super::unanswered::Unanswered;
use crate::event::Reply;
use crate::metrics::meter::Outcomes;
use crate::wire::{DrainNotice, PendingTable, RegisterError};

/// Most requests that wait for replies on one link.
const MAX_PENDING: usize = 4096;

/// What a request's asker waits on.
pub(super) type Waiter = Sender<Result<Reply, Unanswered>>;

/// Requests that wait, and how those before them ended.
pub(super) struct PendingRequests {
    /// Never held across I/O.
    table: FragileMutex<PendingTable<Waiter>>,
    transport: Arc<Transport>,
    closing: Arc<Closing>,
    /// What this side has asked, by its outcome.
    pub outcomes: Outcomes,
}

impl PendingRequests {
    /// None yet.
    pub fn new(transport: Arc<Transport>, closing: Arc<Closing>) -> Self {
        let table = FragileMutex::new(PendingTable::new(MAX_PENDING), Arc::clone(&closing));
        Self { table, transport, closing, outcomes: Outcomes::default() }
    }

    /// Notes a request. Returns its id, and whether no other waits.
    pub fn register(&self, waiter: Waiter) -> Result<(u32, bool), Unanswered> {
        let registered = match self.table.lock() {
            Some(mut table) => table.register(waiter).map(|id| (id, table.len() == 1)),
            None => Err(RegisterError::Closed),
        };
        registered.map_err(|error| match error {
            RegisterError::Full => Unanswered::Full,
            RegisterError::Closed => Unanswered::NotSent(self.closing.reason()),
        })
    }

    /// Notes that a request may reach the peer from now on. False when nobody waits for it.
    pub fn mark_written(&self, id: u32) -> bool {
        self.table.lock().is_some_and(|mut table| table.mark_written(id))
    }

    /// Takes out the waiter of a request that has ended; `None` when nobody waits. A peer that is
    /// stopping learns when that was the last one.
    pub fn take(&self, id: u32) -> Option<Waiter> {
        let (taken, is_drained) = {
            let mut table = self.table.lock()?;
            (table.take(id), table.take_drained())
        };
        if is_drained {
            self.transport.send_drain(DrainNotice::Drained);
        }
        taken.map(|(waiter, _)| waiter)
    }

    /// The peer is stopping: takes no more requests, and reports when those that wait have ended.
    pub fn hold(&self) {
        let is_drained = self.table.lock().is_some_and(|mut table| {
            table.hold();
            table.take_drained()
        });
        if is_drained {
            self.transport.send_drain(DrainNotice::Drained);
        }
    }

    /// The body of a request cannot be sent whole.
    pub fn fail(&self, id: u32, why: &str) {
        if let Some(waiter) = self.take(id) {
            // An asker that has given up at this moment is gone.
            let _ = waiter.try_send(Err(Unanswered::Body(why.to_owned())));
        }
    }

    /// The link has ended: every waiter learns it at once.
    pub fn close(&self, reason: &LinkEnd) {
        for (waiter, written) in self.table.lock_to_close().close() {
            let unanswered = if written { Unanswered::Lost } else { Unanswered::NotSent };
            // An asker that has given up at this moment is gone.
            let _ = waiter.try_send(Err(unanswered(reason.clone())));
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.table.lock().map_or(0, |table| table.len())
    }
}

#[cfg(test)]
impl PendingRequests {
    /// Panics while the table is held.
    pub fn panic_under_lock(&self) {
        let _table = self.table.lock();
        panic!("on purpose");
    }
}
