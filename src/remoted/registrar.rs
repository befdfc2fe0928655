//! Keeps a path registered.
//!
//! In scope: registering again after a loss, with growing waits; stopping. Not in scope: serving callers
//! (`call_dispatcher`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::call_dispatcher::CallDispatcher;
use super::incoming_call::IncomingCall;
use super::outbound::Outbound;
use super::registration::{Registration, RegistrationEnd};
use super::url::{Side, Url};
use super::waker::Waker;
use super::webroute::Cause;
use super::websocket::LivenessTimeouts;
use crate::net::dial::{self, Backoff};
use crate::sync::threads::spawn;
use crate::sync::throttle::Throttle;

/// A registration that lasted this long was stable: the next loss starts with short waits again.
const STABLE_AFTER: Duration = Duration::from_secs(60);
const _: () = assert!(STABLE_AFTER.as_secs() > dial::MAX_WAIT.as_secs());

/// Checks that servers can be registered at these addresses.
pub(super) fn check<'a>(
    urls: impl IntoIterator<Item = &'a Url> + Clone,
    outbound: &Outbound,
) -> io::Result<()> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    for url in urls.clone() {
        if url.side() != Side::Server {
            return Err(wrong(format!("{url}: what is published begins with rws or rwss")));
        }
    }
    outbound.check(urls).map_err(wrong)
}

/// A thread that keeps one path registered. Dropping it withdraws the path.
pub(super) struct Registrar {
    shared: Arc<Shared>,
    /// Dropped to wake the thread from a wait between two attempts.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stopping: AtomicBool,
    /// Whether the path is registered now.
    is_registered: AtomicBool,
    /// Wakes the thread from a wait for callers.
    waker: Waker,
}

impl Registrar {
    /// Starts to register. Fails only if the operating system refuses a thread.
    pub fn start(
        url: Url,
        outbound: &Arc<Outbound>,
        timeouts: LivenessTimeouts,
        calls: CallDispatcher,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            is_registered: AtomicBool::new(false),
            waker: Waker::new()?,
        });
        let (stop, stopped) = bounded(0);
        let (seen, outbound) = (Arc::clone(&shared), Arc::clone(outbound));
        let url = Arc::new(url);
        let thread =
            spawn("register", move || run(&url, &outbound, timeouts, &seen, &stopped, &calls))?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Withdraws the path: the broker closes waiting callers and refuses new ones. Does not wait for a
    /// dial in progress.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        drop(self.stop.take());
        self.shared.waker.wake();
        if let Some(thread) = self.thread.take()
            && self.shared.is_registered.load(Ordering::Acquire)
        {
            // The thread only sends a close frame, which does not block.
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
    url: &Arc<Url>,
    outbound: &Arc<Outbound>,
    timeouts: LivenessTimeouts,
    shared: &Shared,
    stopped: &Receiver<()>,
    calls: &CallDispatcher,
) {
    let mut backoff = Backoff::default();
    while !shared.stopping.load(Ordering::Acquire) {
        match Registration::open(url, outbound, timeouts) {
            Ok(mut registration) => {
                let since = Instant::now();
                shared.is_registered.store(true, Ordering::Release);
                log::info!("{url}: registered");
                calls.registered();
                let end = serve(url, outbound, &mut registration, shared, calls);
                if matches!(end, RegistrationEnd::Woken) {
                    registration.close();
                    return;
                }
                shared.is_registered.store(false, Ordering::Release);
                log::warn!("{url}: the registration is lost: {end}");
                if since.elapsed() >= STABLE_AFTER {
                    backoff.reset();
                }
            }
            Err(cause) => log::warn!("{url}: not registered: {cause}{}", hint(&cause)),
        }
        let wait = backoff.next_wait(fastrand::f64());
        log::debug!("{url}: registering again in {:.1} s", wait.as_secs_f64());
        // Nothing is ever sent: dropping the other end stops the thread.
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Dispatches callers until the registration ends.
fn serve(
    url: &Arc<Url>,
    outbound: &Arc<Outbound>,
    registration: &mut Registration,
    shared: &Shared,
    calls: &CallDispatcher,
) -> RegistrationEnd {
    let wrong_ids = Throttle::default();
    loop {
        match registration.next(&shared.waker) {
            // A broker that never pauses would keep `next` from checking the waker.
            Ok(_) if shared.stopping.load(Ordering::Acquire) => return RegistrationEnd::Woken,
            Ok(Ok(notice)) => {
                let (url, outbound) = (Arc::clone(url), Arc::clone(outbound));
                calls.dispatch(IncomingCall { url, outbound, notice });
            }
            Ok(Err(error)) => {
                if let Some(more) = wrong_ids.allow() {
                    log::warn!("{url}: a caller is not served: it has {error}{more}");
                }
            }
            Err(end) => return end,
        }
    }
}

/// An additional explanation of a refusal.
fn hint(cause: &Cause) -> &'static str {
    match cause {
        Cause::Refused(400, _) => "; another server may hold the path",
        _ => "",
    }
}
