//! The way to the peer: messages out, bodies in pieces both ways, and what the peer can be sent.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::output::{LinkOutput, SendError};
use super::streams::{StreamKey, Streams};
use crate::event::Verb;
use crate::handler::PeerIdentity;
use crate::wire::{
    Capabilities, DrainNotice, FrameLimits, encode_credit, encode_drain, encode_stop,
};

/// Bodies up to this size travel inside their event or reply, in bytes.
const MAX_INLINE: usize = 16 * 1024;

/// What everything on a link sends by.
pub(super) struct Transport {
    pub peer: Arc<PeerIdentity>,
    pub output: LinkOutput,
    /// Bodies in pieces, both ways.
    pub streams: Streams,
    pub limits: FrameLimits,
    /// Whether this side is the client, which has messages of its own for the same.
    pub from_client: bool,
    /// How long a body may stall.
    stall: Duration,
    /// What the peer can be sent; changes when it announces something.
    capabilities: Mutex<Capabilities>,
}

impl Transport {
    /// To this peer, which has announced nothing yet.
    pub fn new(
        peer: Arc<PeerIdentity>,
        output: LinkOutput,
        limits: FrameLimits,
        from_client: bool,
        stall: Duration,
    ) -> Self {
        let capabilities = Mutex::new(Capabilities::original(limits.max_data));
        let streams = Streams::default();
        Self { peer, output, streams, limits, from_client, stall, capabilities }
    }

    /// What the peer can be sent now.
    pub fn capabilities(&self) -> Capabilities {
        *self.capabilities.lock()
    }

    /// The peer announces what it understands.
    pub fn set_capabilities(&self, extensions: u32, max_data: Option<u32>) {
        *self.capabilities.lock() =
            Capabilities::announced(extensions, max_data, self.limits.max_data);
    }

    /// Most bytes of data that this side takes, as it announces them.
    pub fn max_data(&self) -> u32 {
        u32::try_from(self.limits.max_data).unwrap_or(u32::MAX)
    }

    /// For how long a body that goes with an event of this verb may stall; one that carries a
    /// connection may without end.
    pub fn stall(&self, verb: Verb) -> Option<Duration> {
        (verb != Verb::Connect).then_some(self.stall)
    }

    /// Grants the peer so many more bytes of a body.
    pub fn grant(&self, key: StreamKey, count: u32) {
        self.output.send_small(encode_credit(key.side(), key.id, count));
    }

    /// Asks the peer to send no more of a body, or no reply.
    pub fn stop(&self, key: StreamKey, why: &str) {
        self.output.send_small(encode_stop(key.side(), key.id, why));
    }

    /// Sends this side's part in an orderly end.
    pub fn send_drain(&self, notice: DrainNotice) {
        let bytes = encode_drain(self.from_client, fastrand::u32(..), notice);
        // Full: the peer takes nothing, and the drain ends that. Closed: there is nothing to say.
        let (Ok(()) | Err(SendError::Full | SendError::Closed)) = self.output.send_control(bytes);
    }
}

/// Most bytes of a body that travel inside their event or reply to a peer that can be sent this.
pub(super) fn max_inline(capabilities: Capabilities) -> usize {
    MAX_INLINE.min(capabilities.max_data)
}
