//! The outgoing queue and its order: heartbeat replies, then messages, then bodies in pieces, one
//! chunk from each in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::link::streams::{MAX_QUEUED_CHUNKS, OutgoingStream, StreamKey};

/// Bytes collected for one socket write.
pub(super) const BATCH: usize = 64 * 1024;
/// Maximum queued messages.
const MAX_MESSAGES: usize = 8192;
/// Maximum queued heartbeat replies; exceeding it means that the peer floods.
const MAX_CONTROL: usize = 64;

/// An outgoing message.
pub(super) struct Outgoing {
    /// The message, including its header.
    pub bytes: Vec<u8>,
    /// The id, if this is a request, to record that it was written.
    request: Option<u32>,
    /// Whether its body follows in pieces, which are meaningless without it.
    followed: bool,
}

impl Outgoing {
    /// A message other than a request.
    pub const fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, request: None, followed: false }
    }

    /// The request with this id; `followed`: its body follows in pieces.
    pub const fn request(bytes: Vec<u8>, id: u32, followed: bool) -> Self {
        Self { bytes, request: Some(id), followed }
    }

    /// Records through `mark_written` that the message is being written. False for a request that
    /// is no longer wanted and need not be sent.
    pub fn mark_sent(&self, mark_written: impl Fn(u32) -> bool) -> bool {
        self.request.is_none_or(mark_written) || self.followed
    }
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The queue is full.
    Full,
    /// The link is closed.
    Closed,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    /// Heartbeat replies, sent first.
    control: VecDeque<Outgoing>,
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// The frames of bodies in pieces, by body.
    bulk: HashMap<StreamKey, Lane>,
    /// The bodies with frames to send, in round-robin order.
    turns: VecDeque<StreamKey>,
    /// TLS or a partial direct write left something for the writer thread.
    pub flush: bool,
    pub closed: bool,
    /// The last message before the close, set when the queue is closed.
    pub goodbye: Option<Vec<u8>>,
}

/// The queued frames of one body.
struct Lane {
    frames: VecDeque<Vec<u8>>,
    body: Arc<OutgoingStream>,
}

/// The messages that the writer writes next.
#[derive(Default)]
pub(super) struct Batch {
    pub messages: Vec<Outgoing>,
    pub bulk: Vec<(Vec<u8>, Arc<OutgoingStream>)>,
    /// Written frames, for the producers to reuse.
    spare: Vec<Vec<u8>>,
}

impl Batch {
    /// Lets the producers continue, each with a frame to reuse.
    pub fn release_producers(&mut self) {
        for (_, body) in &self.bulk {
            body.written(self.spare.pop());
        }
    }

    /// Keeps a written frame for reuse.
    pub fn keep(&mut self, frame: Vec<u8>) {
        if self.spare.len() < MAX_QUEUED_CHUNKS {
            self.spare.push(frame);
        }
    }
}

impl Queue {
    /// Whether nothing is queued.
    pub fn is_quiet(&self) -> bool {
        self.bytes == 0 && self.turns.is_empty()
    }

    /// Number of queued messages, not counting pieces of bodies.
    pub fn messages(&self) -> usize {
        self.control.len() + self.messages.len()
    }

    /// Adds a message, within a total of `max_bytes`.
    pub fn add(&mut self, message: Outgoing, max_bytes: usize) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        let bytes = self.bytes + message.bytes.len();
        // A single message is always accepted; its length has a limit of its own.
        if self.messages.len() >= MAX_MESSAGES || (bytes > max_bytes && self.bytes > 0) {
            return Err(SendError::Full);
        }
        self.bytes = bytes;
        self.messages.push_back(message);
        Ok(())
    }

    /// Adds a small frame about a body. It is always accepted, because a lost one could stall a
    /// body forever. The number is bounded: each answers something that the peer sent or requested,
    /// and a peer that reads nothing is soon given up.
    pub fn add_small(&mut self, bytes: Vec<u8>) {
        if !self.closed {
            self.bytes += bytes.len();
            self.messages.push_back(Outgoing::plain(bytes));
        }
    }

    /// Adds a heartbeat or heartbeat reply.
    pub fn add_control(&mut self, bytes: Vec<u8>) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        if self.control.len() >= MAX_CONTROL {
            return Err(SendError::Full);
        }
        self.bytes += bytes.len();
        self.control.push_back(Outgoing::plain(bytes));
        Ok(())
    }

    /// Adds a frame of a body in pieces. The producer limits how many are queued.
    pub fn add_bulk(&mut self, body: &Arc<OutgoingStream>, frame: Vec<u8>) {
        if self.closed {
            return;
        }
        let lane = self
            .bulk
            .entry(body.key)
            .or_insert_with(|| Lane { frames: VecDeque::new(), body: Arc::clone(body) });
        lane.frames.push_back(frame);
        if lane.frames.len() == 1 {
            self.turns.push_back(body.key);
        }
    }

    /// Closes the queue and drops its content.
    pub fn close(&mut self, goodbye: Option<Vec<u8>>) {
        *self = Self { flush: self.flush, closed: true, goodbye, ..Self::default() };
    }

    /// Takes messages for about one [`BATCH`], at least one if there is any, and fills it up with
    /// pieces of bodies.
    pub fn take(&mut self, batch: &mut Batch) {
        self.flush = false;
        let mut taken = 0;
        while taken < BATCH {
            let next = self.control.pop_front().or_else(|| self.messages.pop_front());
            let Some(message) = next else { break };
            taken += message.bytes.len();
            batch.messages.push(message);
        }
        self.bytes -= taken;
        while taken < BATCH {
            let Some((frame, body)) = self.take_bulk() else { break };
            taken += frame.len();
            batch.bulk.push((frame, body));
        }
    }

    /// Takes a frame from the next body in turn.
    fn take_bulk(&mut self) -> Option<(Vec<u8>, Arc<OutgoingStream>)> {
        let key = self.turns.pop_front()?;
        let lane = self.bulk.get_mut(&key)?;
        let frame = lane.frames.pop_front()?;
        let body = Arc::clone(&lane.body);
        if lane.frames.is_empty() {
            self.bulk.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        Some((frame, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_takes_what_a_body_would_stand_still_without() {
        let mut queue = Queue::default();
        let add = |queue: &mut Queue| queue.add(Outgoing::plain(vec![0; 100]), 150);
        assert_eq!((add(&mut queue), add(&mut queue)), (Ok(()), Err(SendError::Full)));
        queue.add_small(vec![1; 10]);
        let mut batch = Batch::default();
        queue.take(&mut batch);
        let taken: Vec<_> = batch.messages.iter().map(|message| message.bytes.len()).collect();
        assert_eq!((taken, queue.is_quiet()), (vec![100, 10], true));
        queue.close(None);
        queue.add_small(vec![1; 10]);
        assert_eq!((add(&mut queue), queue.is_quiet()), (Err(SendError::Closed), true));
    }
}
