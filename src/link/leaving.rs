//! An orderly end: the side that is about to stop tells the other, which holds what is new, and
//! closes when nothing is in flight any more.
//!
//! ```text
//! leaving side                       the other
//!   | ------------ leaving ----------> |   holds new requests
//!   | <--- what was on its way ------- |
//!   | -------- replies to it --------> |
//!   | <----------- settled ----------- |   nothing of its own waits
//!   | ------------- close -----------> |   asks on the next connection
//! ```
//!
//! Without the answer a request could be on its way while the connection is closed, and nobody would
//! know whether it was handled.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{HeartbeatMode, Link, lock};
use crate::wire::{DrainNotice, encode_drain};

/// How far an orderly end is.
pub(super) struct Farewell {
    /// The peer has been told that this node is leaving.
    told: AtomicBool,
    /// The peer has answered that.
    settled: AtomicBool,
    /// The peer is leaving; what it keeps its clients away for.
    held: OnceLock<Duration>,
    /// The peer has been answered. Held while it is decided, never while anything is waited for.
    answered: Mutex<bool>,
    /// See [`LinkParts::on_draining`](super::LinkParts::on_draining).
    on_draining: Box<dyn Fn() + Send + Sync>,
}

impl Farewell {
    /// Nobody leaves.
    pub fn new(on_draining: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            told: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            held: OnceLock::new(),
            answered: Mutex::new(false),
            on_draining,
        }
    }
}

impl Link {
    /// Tells the peer that this node is about to stop, if it understands that; once.
    pub fn leave(&self, spread: Duration) {
        if self.capabilities().drain && !self.farewell.told.swap(true, Ordering::AcqRel) {
            self.say(DrainNotice::Draining { spread });
        }
    }

    /// Whether nothing is in flight, and nothing can be on its way from a peer that was told.
    pub fn is_finished(&self) -> bool {
        let told = self.farewell.told.load(Ordering::Acquire);
        (!told || self.farewell.settled.load(Ordering::Acquire)) && self.is_idle()
    }

    /// Whether it may be asked by: it stands, and its peer is not about to stop.
    pub fn is_open(&self) -> bool {
        self.farewell.held.get().is_none() && !self.is_closed()
    }

    /// The peer is about to stop, or was; its clients come back after a random part of this.
    pub fn spread(&self) -> Option<Duration> {
        self.farewell.held.get().copied()
    }

    /// Takes in what the peer says of an end.
    pub(super) fn note_leaving(&self, leaving: DrainNotice) {
        match leaving {
            DrainNotice::Draining { spread } => {
                if self.farewell.held.set(spread).is_ok() {
                    log::info!("{}: is stopping: what is new waits", self.peer.name);
                    lock(&self.pending).hold();
                    self.settle();
                    (self.farewell.on_draining)();
                }
            }
            DrainNotice::Drained => self.farewell.settled.store(true, Ordering::Release),
        }
    }

    /// Answers a peer that is leaving, once nothing waits for its replies. To be called whenever a
    /// request has ended.
    pub(super) fn settle(&self) {
        if self.farewell.held.get().is_none() {
            return;
        }
        let mut answered = lock(&self.farewell.answered);
        if !*answered && lock(&self.pending).is_settled() {
            *answered = true;
            self.say(DrainNotice::Drained);
        }
    }

    fn say(&self, leaving: DrainNotice) {
        let from_client = matches!(self.heartbeat, HeartbeatMode::Sends { .. });
        // Full: the peer takes nothing, and the drain ends that. Closed: there is nothing to say.
        let _ = self.output.send_control(encode_drain(from_client, fastrand::u32(..), leaving));
    }
}
