//! How a link is closed: the first reason is kept, and a panic is one.
//!
//! In scope: the reason, waking the thread that tears the link down, and the locks whose holder's
//! panic closes the link. Not in scope: what closing does to requests and bodies
//! ([`Link::close`](super::Link::close)).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};

use super::end::LinkEnd;

/// Whether and why a link is closed.
pub(super) struct Closing {
    closed: AtomicBool,
    /// The first reason. No other lock is taken while it is held.
    reason: Mutex<Option<LinkEnd>>,
    /// Wakes the heartbeat thread when the link is closed or the silence limit changes. One pending
    /// wake-up is enough.
    alarm: Sender<()>,
    alarmed: Receiver<()>,
}

impl Closing {
    /// An open link.
    pub fn new() -> Self {
        let (alarm, alarmed) = bounded(1);
        Self { closed: AtomicBool::new(false), reason: Mutex::new(None), alarm, alarmed }
    }

    /// Closes the link for this reason; returns false if it is already closed. The heartbeat thread
    /// does the teardown, so this may be called under any lock.
    pub fn begin(&self, reason: LinkEnd) -> bool {
        {
            let mut first = self.reason.lock();
            if first.is_some() {
                return false;
            }
            *first = Some(reason);
            self.closed.store(true, Ordering::Release);
        }
        self.wake();
        true
    }

    /// Whether the link is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Why it was closed; for an open link, the most likely reason.
    pub fn reason(&self) -> LinkEnd {
        self.reason.lock().clone().unwrap_or(LinkEnd::ClosedByPeer)
    }

    /// Wakes the heartbeat thread.
    pub fn wake(&self) {
        // Full: a wake-up is pending already.
        let _ = self.alarm.try_send(());
    }

    /// Waits, on the heartbeat thread, for a wake-up or `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let _ = self.alarmed.recv_timeout(timeout);
    }

    /// Closes the link if this thread panics while the guard is alive: a bug costs one connection,
    /// not the process.
    pub fn on_panic(&self) -> CloseOnPanic<'_> {
        CloseOnPanic { closing: self, was_panicking: thread::panicking() }
    }
}

/// See [`Closing::on_panic`].
pub(super) struct CloseOnPanic<'a> {
    closing: &'a Closing,
    /// A handler's panic drops bodies, which then send a last frame; that leaves nothing
    /// inconsistent.
    was_panicking: bool,
}

impl CloseOnPanic<'_> {
    fn is_panic(&self) -> bool {
        thread::panicking() && !self.was_panicking
    }
}

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if self.is_panic() {
            self.closing.begin(LinkEnd::Failed("a panic, see above".to_owned()));
        }
    }
}

/// A lock over a value that a panic can leave inconsistent. A panic of the holder closes the link
/// before the lock is released, and the value is never used again.
pub(super) struct FragileMutex<T> {
    value: Mutex<Fragile<T>>,
    closing: Arc<Closing>,
}

struct Fragile<T> {
    value: T,
    /// A holder has panicked.
    broken: bool,
}

impl<T> FragileMutex<T> {
    /// Guards `value`. A panic of the holder closes the link through `closing`.
    pub fn new(value: T, closing: Arc<Closing>) -> Self {
        Self { value: Mutex::new(Fragile { value, broken: false }), closing }
    }

    /// Waits for the lock. `None` if a holder has panicked.
    pub fn lock(&self) -> Option<FragileGuard<'_, T>> {
        Some(self.guard(self.value.lock())).filter(|guard| !guard.value.broken)
    }

    /// The lock, if it is free; `None` also if a holder has panicked.
    pub fn try_lock(&self) -> Option<FragileGuard<'_, T>> {
        Some(self.guard(self.value.try_lock()?)).filter(|guard| !guard.value.broken)
    }

    /// Waits for the lock for teardown only: the value may be inconsistent.
    pub fn lock_to_close(&self) -> FragileGuard<'_, T> {
        self.guard(self.value.lock())
    }

    fn guard<'a>(&'a self, value: MutexGuard<'a, Fragile<T>>) -> FragileGuard<'a, T> {
        FragileGuard { on_panic: self.closing.on_panic(), value }
    }
}

/// A held `FragileMutex`.
pub(super) struct FragileGuard<'a, T> {
    // Field order matters: the link must be closed before the lock is released.
    on_panic: CloseOnPanic<'a>,
    value: MutexGuard<'a, Fragile<T>>,
}

impl<T> Deref for FragileGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value.value
    }
}

impl<T> DerefMut for FragileGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value.value
    }
}

impl<T> Drop for FragileGuard<'_, T> {
    fn drop(&mut self) {
        self.value.broken |= self.on_panic.is_panic();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn the_first_reason_stays_and_wakes_the_heartbeat() {
        let closing = Closing::new();
        assert!(!closing.is_closed());
        assert!(closing.begin(LinkEnd::Stopping));
        assert!(!closing.begin(LinkEnd::Flood));
        assert_eq!((closing.is_closed(), closing.reason()), (true, LinkEnd::Stopping));
        assert_eq!(closing.alarmed.try_recv(), Ok(()));
    }

    #[test]
    fn a_panic_under_the_lock_ends_the_link_and_nobody_uses_what_it_left() {
        let closing = Arc::new(Closing::new());
        let lock = FragileMutex::new(1, Arc::clone(&closing));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut value = lock.lock().unwrap();
            *value = 2;
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(closing.reason(), LinkEnd::Failed("a panic, see above".to_owned()));
        assert!(closing.is_closed() && lock.lock().is_none() && lock.try_lock().is_none());
        assert_eq!(*lock.lock_to_close(), 2);
    }

    #[test]
    fn a_lock_that_is_taken_during_somebody_elses_panic_breaks_nothing() {
        struct Last<'a>(&'a FragileMutex<i32>);
        impl Drop for Last<'_> {
            fn drop(&mut self) {
                *self.0.lock().unwrap() += 1;
            }
        }
        let closing = Arc::new(Closing::new());
        let lock = FragileMutex::new(1, Arc::clone(&closing));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _last = Last(&lock);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!((closing.is_closed(), *lock.lock().unwrap()), (false, 2));
    }
}
