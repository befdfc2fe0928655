//! Limits how many events of one peer run at the same time.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sync::shares::Places;

/// The running and waiting events of one peer.
pub(super) struct PeerQueue<J> {
    /// Shared by all peers.
    handlers: Arc<Places>,
    /// Guards the counts and the queue. Never held while an event is handled.
    state: Mutex<Running<J>>,
}

struct Running<J> {
    running: usize,
    /// Bounded by the maximum number of events of one peer.
    waiting: VecDeque<J>,
}

/// What becomes of a new job.
pub(super) enum Entered<J> {
    /// It may run now.
    Runs(J),
    /// It waits for a job of the same peer.
    Waits,
    /// No handler is left, and no job of this peer runs.
    TurnedAway(J),
}

impl<J> PeerQueue<J> {
    /// An empty queue for these handlers.
    pub fn new(handlers: Arc<Places>) -> Self {
        Self { handlers, state: Mutex::new(Running { running: 0, waiting: VecDeque::new() }) }
    }

    /// Returns the job if it may run now; otherwise queues it.
    pub fn enter(&self, job: J) -> Entered<J> {
        let mut state = self.state.lock();
        if self.handlers.take(state.running) {
            state.running += 1;
            return Entered::Runs(job);
        }
        if state.running == 0 {
            return Entered::TurnedAway(job);
        }
        state.waiting.push_back(job);
        Entered::Waits
    }

    /// Marks a job done and returns the next one to run in its place.
    pub fn next(&self) -> Option<J> {
        let mut state = self.state.lock();
        let others = state.running - 1;
        // With none running, nothing would start those that wait.
        if (others == 0 || self.handlers.may_keep(others))
            && let Some(job) = state.waiting.pop_front()
        {
            return Some(job);
        }
        state.running = others;
        self.handlers.give_back();
        None
    }

    /// Undoes `enter` for a job that cannot run.
    pub fn leave(&self) {
        self.state.lock().running -= 1;
        self.handlers.give_back();
    }

    /// Number of waiting jobs.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Drops the waiting jobs that are chosen.
    pub fn discard(&self, is_chosen: impl Fn(&J) -> bool) {
        let discarded = {
            let mut state = self.state.lock();
            let (discarded, kept) =
                std::mem::take(&mut state.waiting).into_iter().partition(is_chosen);
            state.waiting = kept;
            discarded
        };
        drop::<VecDeque<J>>(discarded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(queue: &PeerQueue<u32>, job: u32) -> bool {
        matches!(queue.enter(job), Entered::Runs(_))
    }

    #[test]
    fn those_beyond_the_share_wait_for_their_own_peer_and_others_still_run() {
        let handlers = Arc::new(Places::new(8, 3));
        let [first, second, third] = [(); 3].map(|()| PeerQueue::new(Arc::clone(&handlers)));
        assert_eq!((0..10).filter(|job| runs(&first, *job)).count(), 3);
        assert_eq!((0..10).filter(|job| runs(&second, *job)).count(), 3);
        assert!(runs(&third, 0), "two are left");
        assert_eq!(first.next(), None, "three are too many beside two others");
        assert_eq!((first.next(), second.next()), (Some(3), Some(3)));
        assert_eq!((first.waiting(), handlers.taken()), (6, 6));
        assert!(runs(&third, 1));
        assert!(!runs(&third, 2));
        assert_eq!([third.next(), third.next(), third.next()], [Some(2), None, None]);
        assert_eq!(handlers.taken(), 5);
    }

    #[test]
    fn without_any_place_a_job_is_turned_away_and_never_forgotten() {
        let handlers = Arc::new(Places::new(1, 1));
        let [first, second] = [(); 2].map(|()| PeerQueue::new(Arc::clone(&handlers)));
        assert!(runs(&first, 0));
        assert!(matches!(second.enter(0), Entered::TurnedAway(0)));
        assert!(matches!(first.enter(1), Entered::Waits));
        assert_eq!((first.next(), first.next()), (Some(1), None));
        assert!(runs(&second, 0));
    }

    #[test]
    fn what_is_discarded_never_runs() {
        let queue = PeerQueue::new(Arc::new(Places::new(2, 1)));
        for job in 0..5 {
            runs(&queue, job);
        }
        queue.discard(|job| job % 2 == 0);
        assert_eq!([queue.next(), queue.next(), queue.next()], [Some(1), Some(3), None]);
    }
}
