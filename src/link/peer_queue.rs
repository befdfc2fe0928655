//! Limits how many events of one peer run at the same time.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Maximum concurrent handlers for one peer. Further events wait, so that one peer with slow events
/// cannot occupy all threads.
const MAX_RUNNING: usize = 128;

/// The running and waiting events of one peer.
pub(super) struct PeerQueue<J> {
    /// Guards the counts and the queue. Never held while an event is handled.
    state: Mutex<Running<J>>,
}

struct Running<J> {
    running: usize,
    /// Bounded by the maximum number of events of one peer.
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
    /// Returns the job if it may run now; otherwise queues it.
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

    /// Marks a job done and returns the next one to run in its place.
    pub fn next(&self) -> Option<J> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.running -= 1;
        }
        next
    }

    /// Undoes `enter` for a job that cannot run.
    pub fn leave(&self) {
        self.state.lock().running -= 1;
    }

    /// Number of waiting jobs.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Drops the waiting jobs when the link is closed.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}
