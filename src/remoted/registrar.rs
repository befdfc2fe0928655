//! Keeps a path registered, for ever.
//!
//! In scope: registering again after a loss, with growing waits; stopping. Not in scope: what
//! becomes of callers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::notice::Notice;
use super::outbound::Outbound;
use super::registration::{Ended, Pulse, Registration};
use super::url::Url;
use super::waker::Waker;
use super::webroute::Cause;
use crate::net::dial::{self, Backoff};
use crate::sync::threads;
use crate::sync::throttle::Throttle;

/// A registration that stood this long was well: the next loss starts with short waits again.
const WELL: Duration = Duration::from_secs(60);
const _: () = assert!(WELL.as_secs() > dial::MAX_WAIT.as_secs());

/// What a path's registrar tells.
pub(super) trait Desk: Send + 'static {
    /// The path is registered; for the first time or again.
    fn registered(&self);
    /// A caller waits. This may not wait for anything.
    fn called(&self, notice: Notice);
}

/// A thread that keeps one path registered. Dropping it takes the path back.
pub(super) struct Registrar {
    shared: Arc<Shared>,
    /// Dropped to wake the thread from a wait between two attempts.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stopping: AtomicBool,
    /// The path is registered.
    stands: AtomicBool,
    /// Wakes the thread from a wait for callers.
    waker: Waker,
}

impl Registrar {
    /// Registers from now on. An error is the system's, which has no thread to give.
    pub fn start(
        url: Arc<Url>,
        outbound: Arc<Outbound>,
        pulse: Pulse,
        desk: impl Desk,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            stands: AtomicBool::new(false),
            waker: Waker::new()?,
        });
        let (stop, stopped) = bounded(0);
        let seen = Arc::clone(&shared);
        let thread = threads::spawn("register", move || {
            run(&url, &outbound, pulse, &seen, &stopped, &desk)
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Takes the path back: the broker closes callers that wait, and refuses further ones. A dial
    /// that is under way is not waited for.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        drop(self.stop.take());
        self.shared.waker.wake();
        if let Some(thread) = self.thread.take()
            && self.shared.stands.load(Ordering::Acquire)
        {
            // It only says goodbye, which waits for nothing.
            let _ = thread.join();
        }
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(
    url: &Url,
    outbound: &Outbound,
    pulse: Pulse,
    shared: &Shared,
    stopped: &Receiver<()>,
    desk: &impl Desk,
) {
    let mut backoff = Backoff::default();
    while !shared.stopping.load(Ordering::Acquire) {
        match Registration::open(url, outbound, pulse) {
            Ok(mut registration) => {
                let since = Instant::now();
                shared.stands.store(true, Ordering::Release);
                log::info!("{url}: registered");
                desk.registered();
                let end = serve(url, &mut registration, shared, desk);
                if matches!(end, Ended::Woken) {
                    registration.close();
                    return;
                }
                shared.stands.store(false, Ordering::Release);
                log::warn!("{url}: the registration is lost: {end}");
                if since.elapsed() >= WELL {
                    backoff.reset();
                }
            }
            Err(cause) => log::warn!("{url}: not registered: {cause}{}", hint(&cause)),
        }
        let wait = backoff.next_wait(fastrand::f64());
        log::debug!("{url}: registering again in {:.1} s", wait.as_secs_f64());
        // Nothing is ever sent: the other end is dropped to stop.
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Passes callers on until the registration ends.
fn serve(url: &Url, registration: &mut Registration, shared: &Shared, desk: &impl Desk) -> Ended {
    let wrong_ids = Throttle::default();
    loop {
        match registration.next(&shared.waker) {
            // A broker that never pauses gives no time to look whether this was woken.
            Ok(_) if shared.stopping.load(Ordering::Acquire) => return Ended::Woken,
            Ok(Ok(notice)) => desk.called(notice),
            Ok(Err(error)) => {
                if let Some(more) = wrong_ids.allow() {
                    log::warn!("{url}: a caller is not served: it has {error}{more}");
                }
            }
            Err(end) => return end,
        }
    }
}

/// What else may be meant by a refusal.
fn hint(cause: &Cause) -> &'static str {
    match cause {
        Cause::Refused(400, _) => "; another server may hold the path",
        _ => "",
    }
}
