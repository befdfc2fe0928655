//! Sending a body in pieces, on its producer's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::streams::{Chunk, OutgoingStream, SendPermission};
use super::transport::Transport;
use crate::event::Body;
use crate::wire::{HEADER_BYTES, encode_chunk_header, encode_end, encode_reset};

/// How often a producer that waits for credit or for its source checks whether it was stopped.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How sending a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// The whole body, of this many bytes, is queued or sent.
    Whole(u64),
    /// The receiver wants no more, or the requester gave up.
    Stopped,
    /// The source failed.
    Broken(String),
    /// The receiver accepted nothing for too long.
    Stalled,
}

/// The result of one step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyStep {
    /// A piece is queued or sent.
    Sent,
    /// No credit, or nothing from the source, within the time limit.
    Waits,
    /// Sending has ended; [`OutgoingBody::finish`] reports that to the receiver.
    Ended(BodyEnd),
}

/// A body being sent.
pub(super) struct OutgoingBody {
    transport: Arc<Transport>,
    stream: Arc<OutgoingStream>,
    body: Body,
    /// How long the receiver may accept nothing.
    stall: Option<Duration>,
    /// Send nothing before the receiver's first grant.
    after_grant: bool,
    chunk: Chunk,
    total: u64,
    /// When a piece was last sent or the source waited for.
    moved: Instant,
}

impl OutgoingBody {
    /// A body of which nothing has been sent yet.
    pub fn new(
        transport: &Arc<Transport>,
        stream: Arc<OutgoingStream>,
        body: Body,
        stall: Option<Duration>,
    ) -> Self {
        Self {
            transport: Arc::clone(transport),
            stream,
            after_grant: body.waits_for_reader(),
            body,
            stall,
            chunk: Chunk::default(),
            total: 0,
            moved: Instant::now(),
        }
    }

    /// Sends the whole body as credit permits, waiting up to the stall time for more. Calls
    /// `on_broken` if the source fails, before the receiver is notified.
    pub fn send(mut self, on_broken: impl FnOnce(&str)) -> BodyEnd {
        loop {
            if let BodyStep::Ended(end) = self.step(STOP_POLL_INTERVAL) {
                self.finish(&end, on_broken);
                return end;
            }
        }
    }

    /// Sends the next piece. Waits at most `wait` for credit, and as long again for the source.
    pub fn step(&mut self, wait: Duration) -> BodyStep {
        match self.stream.reserve(&mut self.chunk, self.after_grant, wait) {
            SendPermission::Send => {}
            SendPermission::Stop(_) => return BodyStep::Ended(BodyEnd::Stopped),
            SendPermission::Wait if self.stall.is_some_and(|most| self.moved.elapsed() > most) => {
                return BodyStep::Ended(BodyEnd::Stalled);
            }
            SendPermission::Wait => return BodyStep::Waits,
        }
        self.after_grant = false;
        let count = match self.body.read_within(&mut self.chunk.frame[HEADER_BYTES..], wait) {
            Ok(Some(0)) => return BodyStep::Ended(BodyEnd::Whole(self.total)),
            Ok(Some(count)) => count,
            Ok(None) => {
                self.moved = Instant::now();
                return BodyStep::Waits;
            }
            Err(error) => return BodyStep::Ended(BodyEnd::Broken(error.to_string())),
        };
        self.total += count as u64;
        let mut frame = self.chunk.fill(count);
        encode_chunk_header(self.stream.key.side(), self.stream.key.id, &mut frame);
        self.transport.output.send_bulk(&self.stream, frame);
        self.moved = Instant::now();
        BodyStep::Sent
    }

    /// Whether [`OutgoingBody::step`] respects its time limit.
    pub fn can_wait_briefly(&self) -> bool {
        self.body.has_timeout()
    }

    /// Reports the end to the receiver; see [`OutgoingBody::send`].
    pub fn finish(self, end: &BodyEnd, on_broken: impl FnOnce(&str)) {
        let (side, id) = (self.stream.key.side(), self.stream.key.id);
        let last = match end {
            BodyEnd::Whole(total) => encode_end(side, id, *total),
            BodyEnd::Broken(why) => {
                // Any later answer of the receiver is not an answer to the whole body.
                on_broken(why);
                encode_reset(side, id, why)
            }
            BodyEnd::Stalled => encode_reset(side, id, "it was not taken"),
            BodyEnd::Stopped => encode_reset(side, id, "it is not wanted any more"),
        };
        self.transport.output.send_bulk(&self.stream, last);
        self.transport.streams.sent(self.stream.key);
    }
}
