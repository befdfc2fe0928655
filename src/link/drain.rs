//! An orderly end: the side that is about to stop announces it, and the other holds what is new. The
//! link is closed when nothing is in flight.
//!
//! ```text
//! draining side                      the other
//!   | ------------ draining ---------> |   holds new requests
//!   | <--- what was on its way ------- |
//!   | -------- replies to it --------> |
//!   | <----------- drained ----------- |   nothing of its own waits
//!   | ------------- close -----------> |   asks on the next connection
//! ```
//!
//! Without the answer a request could be on its way while the connection is closed, and nobody would
//! know whether it was handled.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::pending::PendingRequests;
use super::transport::Transport;
use crate::wire::DrainNotice;

/// How far an orderly end is.
pub(super) struct DrainState {
    /// This node has announced that it is stopping.
    announced: AtomicBool,
    /// The peer has answered that: nothing of its own waits.
    answered: AtomicBool,
    /// The peer is stopping; its clients come back after a random part of this.
    peer_spread: OnceLock<Duration>,
    /// See [`LinkParts::on_draining`](super::LinkParts::on_draining).
    on_draining: Box<dyn Fn() + Send + Sync>,
}

impl DrainState {
    /// Neither side is stopping.
    pub fn new(on_draining: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            announced: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            peer_spread: OnceLock::new(),
            on_draining,
        }
    }

    /// Announces that this node is stopping, to a peer that understands it; once.
    pub fn announce(&self, transport: &Transport, spread: Duration) {
        if transport.capabilities().drain && !self.announced.swap(true, Ordering::AcqRel) {
            transport.send_drain(DrainNotice::Draining { spread });
        }
    }

    /// Whether no request can be on its way from a peer that knows of the end.
    pub fn is_answered(&self) -> bool {
        !self.announced.load(Ordering::Acquire) || self.answered.load(Ordering::Acquire)
    }

    /// What the peer has announced, if it is stopping.
    pub fn peer_spread(&self) -> Option<Duration> {
        self.peer_spread.get().copied()
    }

    /// Takes in the peer's part.
    pub fn note(&self, notice: DrainNotice, pending: &PendingRequests, transport: &Transport) {
        match notice {
            DrainNotice::Draining { spread } => {
                if self.peer_spread.set(spread).is_ok() {
                    log::info!("{}: is stopping: new requests wait", transport.peer.name);
                    pending.hold();
                    (self.on_draining)();
                }
            }
            DrainNotice::Drained => self.answered.store(true, Ordering::Release),
        }
    }
}
