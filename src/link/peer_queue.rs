//! Whose turn it is among the events of one peer.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Most handlers that run for one peer at a time: its further events wait for each other, so that the
/// threads are not all taken by one peer whose events take long.
const MAX_RUNNING: usize = 128;

/// The events of one peer that run, and those that wait.
pub(super) struct PeerQueue<J> {
    /// Guards who runs and who waits. Nothing is handled while it is held.
    state: Mutex<Running<J>>,
}

struct Running<J> {
    running: usize,
    /// Bounded by the number of events that one peer may have handled at once.
    waiting: VecDeque<J>,
    closed: bool,
}

impl<J> Default for PeerQueue<J> {
    fn default() -> Self {
        let state = Running { running: 0, waiting: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state) }
    }
}

impl<J> PeerQueue<J> {
    /// Returns a job that may run now; keeps one that has to wait.
    pub fn enter(&self, job: J) -> Option<J> {
        let mut state = self.state.lock();
        if state.running < MAX_RUNNING {
            state.running += 1;
            return Some(job);
        }
        if !state.closed {
            state.waiting.push_back(job);
        }
        None
    }

    /// A job is done: the one that runs in its place.
    pub fn next(&self) -> Option<J> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.running -= 1;
        }
        next
    }

    /// A job that was returned cannot run.
    pub fn leave(&self) {
        self.state.lock().running -= 1;
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// The link has ended: those that wait are dropped.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}
