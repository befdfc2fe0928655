//! A pool of threads for connections: starting and ending a thread takes longer than joining two
//! connections or sending a small body.
//!
//! In scope: starting, keeping and ending them. Not in scope: a limit: each serves a connection,
//! and those are limited.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::threads;

/// The stack size of a thread. Only the used part takes memory.
const STACK_SIZE: usize = 256 * 1024;
/// How long an idle thread is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Threads of one kind. Idle ones end when this is dropped.
pub(crate) struct Workers {
    name: &'static str,
    /// Has no capacity: a sent job has been received by a thread.
    jobs: Sender<Job>,
    taken: Receiver<Job>,
}

impl Workers {
    /// No threads yet; `name` is for those to come.
    pub fn new(name: &'static str) -> Self {
        let (jobs, taken) = bounded(0);
        Self { name, jobs, taken }
    }

    /// Runs the job at once, on an idle or a new thread.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let job = match self.jobs.try_send(Box::new(job)) {
            Ok(()) => return Ok(()),
            // Never disconnected: `self` keeps a receiver.
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
        };
        let taken = self.taken.clone();
        let work = move || {
            job();
            // Disconnected: the `Workers` were dropped.
            while let Ok(job) = taken.recv_timeout(IDLE_TIMEOUT) {
                job();
            }
        };
        threads::spawn_with_stack(self.name, STACK_SIZE, work).map(drop)
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
        let (sender, receiver) = bounded(10);
        let run = || {
            let sender = sender.clone();
            let job = move || sender.send(thread::current().id()).unwrap();
            workers.run(job).unwrap();
            receiver.recv_timeout(Duration::from_secs(10)).unwrap()
        };
        let first = run();
        let until = Instant::now() + Duration::from_secs(5);
        // The thread takes a moment to become idle.
        while run() != first {
            assert!(Instant::now() < until);
        }
    }

    #[test]
    fn one_that_takes_long_holds_up_no_other() {
        let workers = Workers::new("test");
        let (let_go, held) = bounded::<()>(0);
        let (sender, receiver) = bounded(10);
        for _ in 0..5 {
            let (held, sender) = (held.clone(), sender.clone());
            workers
                .run(move || {
                    sender.send(()).unwrap();
                    let _ = held.recv();
                })
                .unwrap();
        }
        for _ in 0..5 {
            receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        drop(let_go);
    }
}
