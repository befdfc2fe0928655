//! Identifies the body that a frame is about.

use crate::wire::StreamSide;

/// A body of a link: which side sent the event, and the event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::link) struct StreamKey {
    /// Whether this side sent the event.
    pub ours: bool,
    /// The event's id.
    pub id: u32,
}

impl StreamKey {
    /// The body of a request by this side, or of its reply.
    pub const fn ours(id: u32) -> Self {
        Self { ours: true, id }
    }

    /// The body of a request by the peer, or of its reply.
    pub const fn theirs(id: u32) -> Self {
        Self { ours: false, id }
    }

    /// The body that a frame from the peer is about.
    pub const fn of_frame(side: StreamSide, id: u32) -> Self {
        Self { ours: matches!(side, StreamSide::Answerer), id }
    }

    /// This side's role in frames about the body.
    pub const fn side(self) -> StreamSide {
        if self.ours { StreamSide::Asker } else { StreamSide::Answerer }
    }
}
