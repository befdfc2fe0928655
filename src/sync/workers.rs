//! Threads for connections, kept for a while for the next one: making a thread and taking it down
//! again takes longer than all that is done to join two connections, or to send a small body.
//!
//! In scope: starting, keeping and ending them. Not in scope: how many there may be: each serves a
//! connection, and those are bounded.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::threads;

/// The stack of a thread. Only what is used of it takes memory.
const STACK: usize = 256 * 1024;
/// How long a thread that has nothing to do is kept.
const KEPT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Threads of one kind. Those that have nothing to do end when this is dropped.
pub(crate) struct Workers {
    name: &'static str,
    /// Without a place of its own: what is sent is in the hands of a thread.
    jobs: Sender<Job>,
    taken: Receiver<Job>,
}

impl Workers {
    /// None yet; their name.
    pub fn new(name: &'static str) -> Self {
        let (jobs, taken) = bounded(0);
        Self { name, jobs, taken }
    }

    /// Runs it at once, on a thread that waits or on a new one.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let job = match self.jobs.try_send(Box::new(job)) {
            Ok(()) => return Ok(()),
            // Disconnected it never is: a receiver is kept here.
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
        };
        let taken = self.taken.clone();
        let work = move || {
            job();
            // Disconnected: whoever had work for it is gone.
            while let Ok(job) = taken.recv_timeout(KEPT) {
                job();
            }
        };
        threads::spawn_with_stack(self.name, STACK, work).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_taken_before_a_new_one_is_made() {
        let workers = Workers::new("test");
        let (tell, told) = bounded(10);
        let run = || {
            let tell = tell.clone();
            let job = move || tell.send(thread::current().id()).unwrap();
            workers.run(job).unwrap();
            told.recv_timeout(Duration::from_secs(10)).unwrap()
        };
        let first = run();
        let until = Instant::now() + Duration::from_secs(5);
        // It needs a moment to wait for more.
        while run() != first {
            assert!(Instant::now() < until);
        }
    }

    #[test]
    fn one_that_takes_long_holds_up_no_other() {
        let workers = Workers::new("test");
        let (let_go, held) = bounded::<()>(0);
        let (tell, told) = bounded(10);
        for _ in 0..5 {
            let (held, tell) = (held.clone(), tell.clone());
            workers
                .run(move || {
                    tell.send(()).unwrap();
                    let _ = held.recv();
                })
                .unwrap();
        }
        for _ in 0..5 {
            told.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        drop(let_go);
    }
}
