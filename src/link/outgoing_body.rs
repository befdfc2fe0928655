//! The sending of a body in pieces, from its producer's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::streams::{Chunk, OutgoingStream, SendPermission};
use super::transport::Transport;
use crate::event::Body;
use crate::wire::{HEADER_BYTES, encode_chunk_header, encode_end, encode_reset};

/// How long a producer waits, for credit or for its own source, before it looks whether it was stopped.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How the sending of a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// All of it is on its way: so many bytes.
    Whole(u64),
    /// The receiver wants no more, or the asker gave up.
    Stopped,
    /// It could not be read to its end.
    Broken(String),
    /// The receiver took nothing for too long.
    Stalled,
}

/// What became of one step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyStep {
    /// A piece is on its way.
    Sent,
    /// There was no credit, or nothing came from the source, within the time.
    Waits,
    /// It has ended; [`OutgoingBody::finish`] reports that to the receiver.
    Ended(BodyEnd),
}

/// A body that is being sent.
pub(super) struct OutgoingBody {
    transport: Arc<Transport>,
    stream: Arc<OutgoingStream>,
    body: Body,
    /// How long the receiver may take nothing.
    stall: Option<Duration>,
    /// Not before the receiver has shown that it reads.
    after_grant: bool,
    chunk: Chunk,
    total: u64,
    /// When a piece was sent, or the source was waited for.
    moved: Instant,
}

impl OutgoingBody {
    /// One of which nothing is sent yet.
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

    /// Sends all of it: reads as much as the receiver has granted, and waits where that is nothing, for
    /// at most the stall time. `on_broken` is called where it could not be read to its end, before the
    /// receiver learns of it.
    pub fn send(mut self, on_broken: impl FnOnce(&str)) -> BodyEnd {
        loop {
            if let BodyStep::Ended(end) = self.step(STOP_POLL_INTERVAL) {
                self.finish(&end, on_broken);
                return end;
            }
        }
    }

    /// Sends the next piece; waits for at most `wait` for credit, and for the source as long.
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

    /// Whether [`OutgoingBody::step`] keeps to its time.
    pub fn can_wait_briefly(&self) -> bool {
        self.body.has_timeout()
    }

    /// Reports its end to the receiver; see [`OutgoingBody::send`].
    pub fn finish(self, end: &BodyEnd, on_broken: impl FnOnce(&str)) {
        let (side, id) = (self.stream.key.side(), self.stream.key.id);
        let last = match end {
            BodyEnd::Whole(total) => encode_end(side, id, *total),
            BodyEnd::Broken(why) => {
                // Whatever the receiver answers then is no answer to the whole.
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
