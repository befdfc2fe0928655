//! A body on its way out: its producer waits here for credit, and for room on the way.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Key, lock};
use crate::wire::{Credit, WireError};

/// Chunks of one body that wait to be written; the next one is produced meanwhile.
pub(super) const MAX_QUEUED: usize = 4;

/// A body on its way out.
pub(in crate::link) struct Outbound {
    pub key: Key,
    /// Guards what may be sent. Held for moments.
    state: Mutex<Allowance>,
    /// Credit or room has come, or the end.
    changed: Condvar,
}

struct Allowance {
    credit: Credit,
    /// Chunks that wait to be written.
    queued: usize,
    /// The receiver has granted something: it reads.
    wanted: bool,
    stopped: Option<String>,
    /// Written frames, to be filled anew: making and clearing them costs as much as sealing them.
    spare: Vec<Vec<u8>>,
}

/// What a producer may do.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::link) enum Leave {
    /// Send this many bytes.
    Send(u64),
    /// Nothing yet.
    Wait,
    /// Nothing more, for this reason.
    Stop(String),
}

impl Outbound {
    /// A body that begins; `closed` says why it cannot be sent.
    pub fn new(key: Key, closed: Option<String>) -> Self {
        let allowance = Allowance {
            credit: Credit::begin(),
            queued: 0,
            wanted: false,
            stopped: closed,
            spare: Vec::new(),
        };
        Self { key, state: Mutex::new(allowance), changed: Condvar::new() }
    }

    /// The receiver has granted more.
    pub fn grant(&self, count: u32) -> Result<(), WireError> {
        let mut state = lock(&self.state);
        state.wanted = true;
        state.credit.grant(self.key.id, count)?;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// The receiver, or the end of the link, stops it.
    pub fn stop(&self, reason: &str) {
        lock(&self.state).stopped.get_or_insert_with(|| reason.to_owned());
        self.changed.notify_all();
    }

    /// Waits until something may be sent, or for at most `timeout`. With `invited` also until the
    /// receiver has shown that it reads.
    pub fn wait(&self, invited: bool, timeout: Duration) -> Leave {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.state);
        let must_wait = |state: &Allowance| {
            let may = state.credit.left() > 0 && state.queued < MAX_QUEUED;
            state.stopped.is_none() && !(may && (state.wanted || !invited))
        };
        while must_wait(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Leave::Wait;
            }
            self.changed.wait_for(&mut state, left);
        }
        if let Some(reason) = &state.stopped {
            Leave::Stop(reason.clone())
        } else {
            Leave::Send(state.credit.left())
        }
    }

    /// A chunk of this many bytes was handed over. They were part of what [`Outbound::wait`] allowed.
    pub fn spend(&self, count: usize) {
        let mut state = lock(&self.state);
        state.credit.take(count);
        state.queued += 1;
    }

    /// A frame of this length, whatever is in it.
    pub fn frame(&self, length: usize) -> Vec<u8> {
        let mut frame = lock(&self.state).spare.pop().unwrap_or_default();
        frame.resize(length, 0);
        frame
    }

    /// Takes a frame back that was written.
    pub fn give_back(&self, frame: Vec<u8>) {
        let mut state = lock(&self.state);
        if state.spare.len() < MAX_QUEUED {
            state.spare.push(frame);
        }
    }

    /// The writer has taken a chunk.
    pub fn written(&self) {
        let mut state = lock(&self.state);
        state.queued = state.queued.saturating_sub(1);
        let room = state.queued + 1 == MAX_QUEUED;
        drop(state);
        if room {
            self.changed.notify_all();
        }
    }
}
