//! An orderly shutdown: the side that is stopping announces it, and the other holds back new
//! requests. The link is closed when nothing is in flight.
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
//! Without the `drained` answer a request could be in transit when the connection closes, and
//! nobody would know whether it was handled.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::pending::PendingRequests;
use super::transport::Transport;
use crate::wire::DrainNotice;

/// The state of an orderly shutdown.
pub(super) struct DrainState {
    /// This node has announced that it is stopping.
    announced: AtomicBool,
    /// The peer has answered: it has no pending requests.
    answered: AtomicBool,
    /// The peer is stopping; its clients reconnect after a random part of this.
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

    /// Announces once that this node is stopping, if the peer supports that.
    pub fn announce(&self, transport: &Transport, spread: Duration) {
        if transport.capabilities().drain && !self.announced.swap(true, Ordering::AcqRel) {
            transport.send_drain(DrainNotice::Draining { spread });
        }
    }

    /// Whether a peer that was notified of the stop can have no request in transit.
    pub fn is_answered(&self) -> bool {
        !self.announced.load(Ordering::Acquire) || self.answered.load(Ordering::Acquire)
    }

    /// The spread that the peer announced, if it is stopping.
    pub fn peer_spread(&self) -> Option<Duration> {
        self.peer_spread.get().copied()
    }

    /// Handles a notice from the peer.
    pub fn note(&self, notice: DrainNotice, pending: &PendingRequests, transport: &Transport) {
        match notice {
            DrainNotice::Draining { spread } => {
                if self.peer_spread.set(spread).is_ok() {
                    log::info!("{}: stopping; holding new requests", transport.peer.name);
                    pending.hold();
                    (self.on_draining)();
                }
            }
            DrainNotice::Drained => self.answered.store(true, Ordering::Release),
        }
    }
}
