//! Which body of a link a frame is about.

use crate::wire::StreamSide;

/// A body of a link: which side asked the event, and the event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::link) struct StreamKey {
    /// Whether this side asked the event.
    pub ours: bool,
    /// The event's id.
    pub id: u32,
}

impl StreamKey {
    /// The body of a request that this side makes, or of its reply.
    pub const fn ours(id: u32) -> Self {
        Self { ours: true, id }
    }

    /// The body of a request of the peer's, or of its reply.
    pub const fn theirs(id: u32) -> Self {
        Self { ours: false, id }
    }

    /// What a frame from the peer is about.
    pub const fn of_frame(side: StreamSide, id: u32) -> Self {
        Self { ours: matches!(side, StreamSide::Answerer), id }
    }

    /// What this side is when it sends a frame about it.
    pub const fn side(self) -> StreamSide {
        if self.ours { StreamSide::Asker } else { StreamSide::Answerer }
    }
}
