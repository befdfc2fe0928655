//! An outgoing body: the producer waits here for credit and for room in the outgoing queue.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::key::StreamKey;
use crate::wire::{CHUNK, Credit, HEADER_BYTES, WireError};

/// Chunks of one body being produced or queued; the next one is produced while others are written.
pub(in crate::link) const MAX_QUEUED_CHUNKS: usize = 4;

/// An outgoing body.
pub(in crate::link) struct OutgoingStream {
    pub key: StreamKey,
    /// Guards what may be sent. Never held across I/O.
    window: Mutex<SendWindow>,
    /// Signalled on credit, on room in the queue, and on the end.
    changed: Condvar,
}

struct SendWindow {
    credit: Credit,
    /// Chunks being produced or queued.
    queued: usize,
    /// The receiver has granted credit, so it reads.
    wanted: bool,
    stopped: Option<String>,
    /// Written frames for reuse: allocating and clearing one costs as much as encrypting it.
    spare: Vec<Vec<u8>>,
}

/// What a producer may do next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::link) enum SendPermission {
    /// Fill the chunk's frame.
    Send,
    /// Wait: nothing may be sent yet.
    Wait,
    /// Stop, for this reason.
    Stop(String),
}

/// The chunk that a producer is working on.
#[derive(Default)]
pub(in crate::link) struct Chunk {
    /// The next frame: space for the header, then for the bytes that may be sent.
    pub frame: Vec<u8>,
    /// Bytes of credit reserved for the chunk and not used.
    reserved: usize,
    /// Whether it counts towards [`MAX_QUEUED_CHUNKS`].
    is_queued: bool,
}

impl Chunk {
    /// Takes the frame, which holds `count` bytes of the body.
    pub fn fill(&mut self, count: usize) -> Vec<u8> {
        self.reserved = self.reserved.saturating_sub(count);
        self.is_queued = false;
        self.frame.truncate(HEADER_BYTES + count);
        std::mem::take(&mut self.frame)
    }
}

impl OutgoingStream {
    /// A new body; `closed` says why it cannot be sent.
    pub fn new(key: StreamKey, closed: Option<String>) -> Self {
        let window = SendWindow {
            credit: Credit::begin(),
            queued: 0,
            wanted: false,
            stopped: closed,
            spare: Vec::new(),
        };
        Self { key, window: Mutex::new(window), changed: Condvar::new() }
    }

    /// Adds credit granted by the receiver.
    pub fn grant(&self, count: u32) -> Result<(), WireError> {
        {
            let mut window = self.window.lock();
            window.wanted = true;
            window.credit.grant(self.key.id, count)?;
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Stops the body, at the receiver's request or because the link is closed.
    pub fn stop(&self, reason: &str) {
        self.window.lock().stopped.get_or_insert_with(|| reason.to_owned());
        self.changed.notify_all();
    }

    /// Waits up to `timeout` until something may be sent, and prepares `chunk` for it. With
    /// `after_grant`, also waits until the receiver has shown that it reads. Credit reserved
    /// earlier for the chunk and not used is returned first.
    pub fn reserve(
        &self,
        chunk: &mut Chunk,
        after_grant: bool,
        timeout: Duration,
    ) -> SendPermission {
        let mut window = self.window.lock();
        window.credit.give_back(std::mem::take(&mut chunk.reserved));
        if std::mem::take(&mut chunk.is_queued) {
            window.queued = window.queued.saturating_sub(1);
        }
        let must_wait = |window: &SendWindow| {
            let may_send = window.credit.left() > 0 && window.queued < MAX_QUEUED_CHUNKS;
            window.stopped.is_none() && !(may_send && (window.wanted || !after_grant))
        };
        if must_wait(&window) {
            let deadline = Instant::now() + timeout;
            while must_wait(&window) {
                if self.changed.wait_until(&mut window, deadline).timed_out() {
                    break;
                }
            }
            if must_wait(&window) {
                return SendPermission::Wait;
            }
        }
        if let Some(reason) = &window.stopped {
            return SendPermission::Stop(reason.clone());
        }
        chunk.reserved = window.credit.take(CHUNK);
        chunk.is_queued = true;
        window.queued += 1;
        if chunk.frame.is_empty() {
            chunk.frame = window.spare.pop().unwrap_or_default();
        }
        chunk.frame.resize(HEADER_BYTES + chunk.reserved, 0);
        SendPermission::Send
    }

    /// A chunk was written, or is treated as written; `spare` is a frame for reuse.
    pub fn written(&self, spare: Option<Vec<u8>>) {
        let has_room = {
            let mut window = self.window.lock();
            if window.spare.len() < MAX_QUEUED_CHUNKS {
                window.spare.extend(spare);
            }
            window.queued = window.queued.saturating_sub(1);
            window.queued + 1 == MAX_QUEUED_CHUNKS
        };
        if has_room {
            self.changed.notify_all();
        }
    }
}
