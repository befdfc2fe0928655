//! The path to the peer: outgoing messages, bodies in pieces both ways, and the peer's
//! capabilities.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::held::HeldMemory;
use super::output::{LinkOutput, SendError};
use super::streams::{StreamKey, Streams};
use crate::event::Verb;
use crate::handler::PeerIdentity;
use crate::wire::{
    Capabilities, DrainNotice, FrameLimits, encode_credit, encode_drain, encode_stop,
};

/// Maximum size of a body that travels inside its event or reply, in bytes.
const MAX_INLINE: usize = 16 * 1024;

/// The sending side of a link, shared by all its parts.
pub(super) struct Transport {
    pub peer: Arc<PeerIdentity>,
    pub output: LinkOutput,
    /// Bodies in pieces, in both directions.
    pub streams: Streams,
    pub limits: FrameLimits,
    /// Whether this side is the client, which uses different message types for the same content.
    pub from_client: bool,
    /// Maximum stall of a body.
    stall: Duration,
    /// What can be sent to the peer; updated when it announces its extensions.
    capabilities: Mutex<Capabilities>,
}

impl Transport {
    /// For a peer that has announced nothing yet.
    pub fn new(
        peer: Arc<PeerIdentity>,
        output: LinkOutput,
        held: Arc<HeldMemory>,
        limits: FrameLimits,
        from_client: bool,
        stall: Duration,
    ) -> Self {
        let capabilities = Mutex::new(Capabilities::original(limits.max_data));
        let streams = Streams::new(held);
        Self { peer, output, streams, limits, from_client, stall, capabilities }
    }

    /// What can currently be sent to the peer.
    pub fn capabilities(&self) -> Capabilities {
        *self.capabilities.lock()
    }

    /// Applies the extensions that the peer announces.
    pub fn set_capabilities(&self, extensions: u32, max_data: Option<u32>) {
        *self.capabilities.lock() =
            Capabilities::announced(extensions, max_data, self.limits.max_data);
    }

    /// Maximum bytes of data that this side accepts, as announced to the peer.
    pub fn max_data(&self) -> u32 {
        u32::try_from(self.limits.max_data).unwrap_or(u32::MAX)
    }

    /// Maximum stall of a body that belongs to an event of this verb; none for a tunnelled
    /// connection.
    pub fn stall(&self, verb: Verb) -> Option<Duration> {
        (verb != Verb::Connect).then_some(self.stall)
    }

    /// Grants the peer `count` more bytes of a body.
    pub fn grant(&self, key: StreamKey, count: u32) {
        self.output.send_small(encode_credit(key.side(), key.id, count));
    }

    /// Asks the peer to stop sending a body, or not to reply.
    pub fn stop(&self, key: StreamKey, why: &str) {
        self.output.send_small(encode_stop(key.side(), key.id, why));
    }

    /// Sends a drain notice.
    pub fn send_drain(&self, notice: DrainNotice) {
        let bytes = encode_drain(self.from_client, fastrand::u32(..), notice);
        // Full: the peer reads nothing, and the drain timeout applies. Closed: there is nothing to
        // announce.
        let (Ok(()) | Err(SendError::Full | SendError::Closed)) = self.output.send_control(bytes);
    }
}

/// Maximum size of a body inside its event or reply, for a peer with these capabilities.
pub(super) fn max_inline(capabilities: Capabilities) -> usize {
    MAX_INLINE.min(capabilities.max_data)
}
