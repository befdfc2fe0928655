//! A body on its way out: its producer waits here for credit, and for room on the way.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::key::StreamKey;
use crate::wire::{CHUNK, Credit, HEADER_BYTES, WireError};

/// Chunks of one body that are produced or wait to be written; the next one is produced meanwhile.
pub(in crate::link) const MAX_QUEUED_CHUNKS: usize = 4;

/// A body on its way out.
pub(in crate::link) struct OutgoingStream {
    pub key: StreamKey,
    /// Guards what may be sent. Never held across I/O.
    window: Mutex<SendWindow>,
    /// Credit or room has come, or the end.
    changed: Condvar,
}

struct SendWindow {
    credit: Credit,
    /// Chunks that are being produced, or wait to be written.
    queued: usize,
    /// The receiver has granted something: it reads.
    wanted: bool,
    stopped: Option<String>,
    /// Written frames, to be filled anew: making and clearing them costs as much as sealing them.
    spare: Vec<Vec<u8>>,
}

/// What a producer may do.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::link) enum SendPermission {
    /// Fill the chunk's frame.
    Send,
    /// Nothing yet.
    Wait,
    /// Nothing more, for this reason.
    Stop(String),
}

/// What a producer has in hand.
#[derive(Default)]
pub(in crate::link) struct Chunk {
    /// The next frame: room for the header, then for what may be sent.
    pub frame: Vec<u8>,
    /// Bytes of credit that were taken for it and not used.
    reserved: usize,
    /// It counts as one of the [`MAX_QUEUED_CHUNKS`].
    is_queued: bool,
}

impl Chunk {
    /// Takes out the frame, which has so many bytes of the body.
    pub fn fill(&mut self, count: usize) -> Vec<u8> {
        self.reserved = self.reserved.saturating_sub(count);
        self.is_queued = false;
        self.frame.truncate(HEADER_BYTES + count);
        std::mem::take(&mut self.frame)
    }
}

impl OutgoingStream {
    /// A body that begins; `closed` says why it cannot be sent.
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

    /// The receiver has granted more.
    pub fn grant(&self, count: u32) -> Result<(), WireError> {
        {
            let mut window = self.window.lock();
            window.wanted = true;
            window.credit.grant(self.key.id, count)?;
        }
        self.changed.notify_all();
        Ok(())
    }

    /// The receiver, or the end of the link, stops it.
    pub fn stop(&self, reason: &str) {
        self.window.lock().stopped.get_or_insert_with(|| reason.to_owned());
        self.changed.notify_all();
    }

    /// Waits until something may be sent, or for at most `timeout`, and makes `chunk` ready for it. With
    /// `after_grant` it also waits until the receiver has shown that it reads. What was reserved for
    /// the chunk before and not used is given back first.
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

    /// A chunk is written, or taken to be; `spare` is a frame to be filled anew.
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
