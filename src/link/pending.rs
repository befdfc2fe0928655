//! This side's requests that await replies on a link.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::closing::{Closing, FragileMutex};
use super::end::LinkEnd;
use super::transport::Transport;
use super::unanswered::Unanswered;
use crate::event::Reply;
use crate::metrics::meter::Outcomes;
use crate::wire::{DrainNotice, PendingTable, RegisterError};

/// Maximum pending requests on one link.
const MAX_PENDING: usize = 4096;

/// The channel on which a request's reply is delivered.
pub(super) type Waiter = Sender<Result<Reply, Unanswered>>;

/// Pending requests, and the outcomes of finished ones.
pub(super) struct PendingRequests {
    /// Never held across I/O.
    table: FragileMutex<PendingTable<Waiter>>,
    transport: Arc<Transport>,
    closing: Arc<Closing>,
    /// This side's requests by outcome.
    pub outcomes: Outcomes,
}

impl PendingRequests {
    /// An empty table.
    pub fn new(transport: Arc<Transport>, closing: Arc<Closing>) -> Self {
        let table = FragileMutex::new(PendingTable::new(MAX_PENDING), Arc::clone(&closing));
        Self { table, transport, closing, outcomes: Outcomes::default() }
    }

    /// Registers a request. Returns its id, and whether it is the only one.
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

    /// Records that a request may reach the peer from now on. False if nobody waits for it.
    pub fn mark_written(&self, id: u32) -> bool {
        self.table.lock().is_some_and(|mut table| table.mark_written(id))
    }

    /// Removes and returns the waiter of a finished request; `None` if nobody waits. If the peer is
    /// stopping and this was the last one, reports that to it.
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

    /// The peer is stopping: accepts no more requests, and reports when the pending ones have
    /// finished.
    pub fn hold(&self) {
        let is_drained = self.table.lock().is_some_and(|mut table| {
            table.hold();
            table.take_drained()
        });
        if is_drained {
            self.transport.send_drain(DrainNotice::Drained);
        }
    }

    /// Fails a request whose body cannot be sent in full.
    pub fn fail(&self, id: u32, why: &str) {
        if let Some(waiter) = self.take(id) {
            // The requester may have given up at this moment.
            let _ = waiter.try_send(Err(Unanswered::Body(why.to_owned())));
        }
    }

    /// Fails every pending request when the link is closed.
    pub fn close(&self, reason: &LinkEnd) {
        for (waiter, written) in self.table.lock_to_close().close() {
            let unanswered = if written { Unanswered::Lost } else { Unanswered::NotSent };
            // The requester may have given up at this moment.
            let _ = waiter.try_send(Err(unanswered(reason.clone())));
        }
    }

    /// Number of pending requests.
    pub fn len(&self) -> usize {
        self.table.lock().map_or(0, |table| table.len())
    }
}

#[cfg(test)]
impl PendingRequests {
    /// Panics while holding the table.
    pub fn panic_under_lock(&self) {
        let _table = self.table.lock();
        panic!("on purpose");
    }
}
