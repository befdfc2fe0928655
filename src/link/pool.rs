//! The handler threads: as many as needed, up to a limit, with a bounded queue.
//!
//! A job that finds no idle thread waits a moment for one before a new thread is started, so that
//! quick handlers need few threads and a slow one delays nobody.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, select};

use super::spin;
use crate::sync::threads;

/// Threads that are started first and never stop. One is enough: quick jobs find it awake, and no
/// other idle thread competes with it.
const KEPT_THREADS: usize = 1;
/// How often an idle thread yields before it sleeps.
const IDLE_SPINS: usize = 100;
/// Maximum number of threads.
pub(super) const MAX_THREADS: usize = 1024;
/// Maximum number of queued jobs.
const MAX_QUEUED: usize = 4096;
/// How long queued jobs may make no progress before another thread is started.
const QUEUE_STALL: Duration = Duration::from_millis(2);
/// How long an additional thread stays idle before it ends.
const THREAD_IDLE: Duration = Duration::from_secs(10);

/// Runs jobs of type `J`.
pub struct Pool<J> {
    jobs: Sender<J>,
    /// Dropped with the pool, which ends the watching thread.
    _alive: Sender<()>,
    shared: Arc<Shared<J>>,
}

struct Shared<J> {
    run: Box<dyn Fn(J) + Send + Sync>,
    queue: Receiver<J>,
    /// Wakes the watching thread; one pending wake-up is enough. Sent by a submitter that sees no
    /// idle thread, and by the last idle thread when it takes a job and sees another queued: one of
    /// the two always sees the other's update.
    waiting: Sender<()>,
    threads: AtomicUsize,
    idle: AtomicUsize,
    taken: AtomicUsize,
}

impl<J: Send + 'static> Pool<J> {
    /// Starts the first threads. `run` is called for each job; a panic in it affects that job only.
    pub fn start(run: impl Fn(J) + Send + Sync + 'static) -> io::Result<Self> {
        let (jobs, queue) = bounded(MAX_QUEUED);
        let (waiting, wake_ups) = bounded(1);
        let shared = Arc::new(Shared {
            run: Box::new(run),
            queue,
            waiting,
            threads: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        });
        for _ in 0..KEPT_THREADS {
            Shared::spawn(&shared)?;
        }
        let (alive, dropped) = bounded(0);
        let watched = Arc::clone(&shared);
        threads::spawn("handler-watch", move || watch(&watched, &wake_ups, &dropped))?;
        Ok(Self { jobs, _alive: alive, shared })
    }

    /// Approximate load.
    pub fn load(&self) -> Load {
        Load {
            threads: self.shared.threads.load(Ordering::Relaxed),
            idle: self.shared.idle.load(Ordering::Relaxed),
            queued: self.shared.queue.len(),
        }
    }

    /// Submits a job without waiting; returns it if the queue is full.
    pub fn submit(&self, job: J) -> Result<(), J> {
        match self.jobs.try_send(job) {
            Ok(()) => {
                if self.shared.idle.load(Ordering::SeqCst) == 0 {
                    self.shared.wake_watch();
                }
                Ok(())
            }
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }
}

/// The load of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// All threads.
    pub threads: usize,
    /// Idle threads among them.
    pub idle: usize,
    /// Queued jobs.
    pub queued: usize,
}

/// Starts threads while queued jobs make no progress. Ends when the pool is dropped.
fn watch<J: Send + 'static>(
    shared: &Arc<Shared<J>>,
    wake_ups: &Receiver<()>,
    dropped: &Receiver<()>,
) {
    loop {
        select! {
            recv(wake_ups) -> _ => {}
            recv(dropped) -> _ => return,
        }
        let mut taken = shared.taken.load(Ordering::Relaxed);
        loop {
            if dropped.recv_timeout(QUEUE_STALL) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if shared.queue.is_empty() {
                break;
            }
            let now = shared.taken.load(Ordering::Relaxed);
            if now == taken
                && shared.threads.load(Ordering::Relaxed) < MAX_THREADS
                && let Err(error) = Shared::spawn(shared)
            {
                log::warn!("cannot start another handler thread: {error}");
                break;
            }
            taken = now;
        }
    }
}

impl<J: Send + 'static> Shared<J> {
    fn spawn(shared: &Arc<Self>) -> io::Result<()> {
        let own = Arc::clone(shared);
        let number = shared.threads.fetch_add(1, Ordering::Relaxed);
        let spawned =
            threads::spawn(format!("handler-{number}"), move || own.work(number < KEPT_THREADS));
        if spawned.is_err() {
            shared.threads.fetch_sub(1, Ordering::Relaxed);
        }
        spawned.map(drop)
    }

    fn wake_watch(&self) {
        // Full: a wake-up is already pending. Disconnected: the pool is being dropped.
        let _ = self.waiting.try_send(());
    }

    /// Runs jobs until the pool is dropped or the thread has been idle for too long.
    fn work(&self, kept: bool) {
        loop {
            self.idle.fetch_add(1, Ordering::SeqCst);
            let job = spin::receive(&self.queue, THREAD_IDLE, IDLE_SPINS);
            let was_last = self.idle.fetch_sub(1, Ordering::SeqCst) == 1;
            if was_last && !self.queue.is_empty() {
                self.wake_watch();
            }
            match job {
                Ok(job) => {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                    // The job's creator handles the answer, also after a panic; here a panic must
                    // only not kill the thread.
                    let _ = catch_unwind(AssertUnwindSafe(|| (self.run)(job)));
                }
                Err(RecvTimeoutError::Timeout) if kept => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn stuck_jobs_delay_no_other() {
        let (release, hold) = bounded::<()>(0);
        let (done, finished) = bounded(200);
        let pool = Pool::start(move |stuck: bool| {
            if stuck {
                let _ = hold.recv();
            }
            done.send(stuck).unwrap();
        })
        .unwrap();
        for _ in 0..50 {
            pool.submit(true).unwrap();
        }
        pool.submit(false).unwrap();
        assert_eq!(finished.recv_timeout(Duration::from_secs(10)), Ok(false));
        drop(release);
        for _ in 0..50 {
            assert_eq!(finished.recv_timeout(Duration::from_secs(10)), Ok(true));
        }
    }

    #[test]
    fn jobs_that_come_faster_than_threads_wake_are_not_forgotten() {
        for _ in 0..20 {
            let (release, hold) = bounded::<()>(0);
            let (enter, entered) = bounded(100);
            let pool = Pool::start(move |()| {
                let _ = enter.send(());
                let _ = hold.recv();
            })
            .unwrap();
            // Submit while every thread still waits for a job and counts as idle.
            while pool.shared.idle.load(Ordering::SeqCst) < KEPT_THREADS {
                thread::yield_now();
            }
            for _ in 0..3 * KEPT_THREADS {
                pool.submit(()).unwrap();
            }
            for _ in 0..3 * KEPT_THREADS {
                assert_eq!(entered.recv_timeout(Duration::from_secs(10)), Ok(()));
            }
            drop(release);
        }
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let (done, finished) = bounded(1);
        let pool = Pool::start(move |panics: bool| {
            assert!(!panics, "on purpose");
            done.send(()).unwrap();
        })
        .unwrap();
        for _ in 0..2 * MAX_THREADS {
            pool.submit(true).unwrap();
        }
        pool.submit(false).unwrap();
        assert_eq!(finished.recv_timeout(Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn the_queue_has_an_end() {
        let (release, hold) = bounded::<()>(0);
        let pool = Pool::start(move |()| {
            let _ = hold.recv();
        })
        .unwrap();
        let mut taken = 0;
        while pool.submit(()).is_ok() {
            taken += 1;
            assert!(taken <= MAX_QUEUED + MAX_THREADS);
        }
        drop(release);
    }
}
