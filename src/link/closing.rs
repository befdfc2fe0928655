//! How a link ends: the first reason stays, and a panic is one.
//!
//! In scope: the reason, the wake-up of the thread that carries the end out, and the locks whose
//! holder's panic ends the link. Not in scope: what the end does to requests and bodies
//! ([`Link::close`](super::Link::close)).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};

use super::end::LinkEnd;

/// Whether and why a link has ended.
pub(super) struct Closing {
    closed: AtomicBool,
    /// The first reason. No other lock is taken while it is held.
    reason: Mutex<Option<LinkEnd>>,
    /// Wakes the heartbeat thread: the link has ended, or the silence limit has changed. One pending
    /// wake-up is enough.
    alarm: Sender<()>,
    alarmed: Receiver<()>,
}

impl Closing {
    /// A link that stands.
    pub fn new() -> Self {
        let (alarm, alarmed) = bounded(1);
        Self { closed: AtomicBool::new(false), reason: Mutex::new(None), alarm, alarmed }
    }

    /// Ends the link for this reason, unless it has ended; false then. The heartbeat thread carries the
    /// end out, so that this may be called under any lock.
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

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Why it has ended; for one that stands, what its end would most likely be.
    pub fn reason(&self) -> LinkEnd {
        self.reason.lock().clone().unwrap_or(LinkEnd::ClosedByPeer)
    }

    /// Wakes the heartbeat thread.
    pub fn wake(&self) {
        // Full: a wake-up is pending already.
        let _ = self.alarm.try_send(());
    }

    /// The heartbeat thread waits until it is woken, for at most `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let _ = self.alarmed.recv_timeout(timeout);
    }

    /// Ends the link if this thread panics before the guard is dropped: a defect costs one connection,
    /// not the process.
    pub fn on_panic(&self) -> CloseOnPanic<'_> {
        CloseOnPanic { closing: self, was_panicking: thread::panicking() }
    }
}

/// See [`Closing::on_panic`].
pub(super) struct CloseOnPanic<'a> {
    closing: &'a Closing,
    /// A handler's panic drops bodies, and those send a last frame: that changes nothing by halves.
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

/// A lock over what a panic can leave half changed. A panic of its holder ends the link before anybody
/// else gets the lock, and nobody gets it for use again.
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
    /// Over this value of this link.
    pub fn new(value: T, closing: Arc<Closing>) -> Self {
        Self { value: Mutex::new(Fragile { value, broken: false }), closing }
    }

    /// Waits for the lock. `None` when a holder has panicked.
    pub fn lock(&self) -> Option<FragileGuard<'_, T>> {
        Some(self.guard(self.value.lock())).filter(|guard| !guard.value.broken)
    }

    /// The lock where it is free; `None` also when a holder has panicked.
    pub fn try_lock(&self) -> Option<FragileGuard<'_, T>> {
        Some(self.guard(self.value.try_lock()?)).filter(|guard| !guard.value.broken)
    }

    /// Waits for the lock, to take down what it guards: that may be half changed.
    pub fn lock_to_close(&self) -> FragileGuard<'_, T> {
        self.guard(self.value.lock())
    }

    fn guard<'a>(&'a self, value: MutexGuard<'a, Fragile<T>>) -> FragileGuard<'a, T> {
        FragileGuard { on_panic: self.closing.on_panic(), value }
    }
}

/// The lock, held.
pub(super) struct FragileGuard<'a, T> {
    // Dropped in this order: the link has ended when the lock is free.
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
