//! The thread that ends what has to be ended, whoever else is busy or waits: one per folder of scripts.
//!
//! In scope: how many groups there are, and when each is looked at. Not in scope: what is done to one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::group::{Group, Why};

/// Most scripts at once, with those that are being ended.
const MAX_GROUPS: usize = 64;
/// How long a stop waits for everything to be gone: the grace of a group, and some.
const STOP: Duration = Duration::from_secs(3);
/// The longest sleep, where nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// Watches over process groups. Clones are the same one.
#[derive(Clone)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    taken: Arc<AtomicUsize>,
    /// Guards what is watched. Groups are locked while it is held, never the other way round.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    groups: Vec<Arc<Group>>,
    /// When the thread looks again by itself; `None` while it is looking.
    wakes: Option<Instant>,
    stopping: bool,
}

/// The right to run one script.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Keeper {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::Builder::new().name("exec-keeper".to_owned()).spawn(move || own.keep())?;
        Ok(Self { shared })
    }

    /// A place for one more script, if there is one.
    pub fn place(&self) -> Option<Place> {
        let taken = &self.shared.taken;
        let one_more = |count| (count < MAX_GROUPS).then_some(count + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Place(Arc::clone(taken)))
    }

    /// From now on the group is ended when its time has come.
    pub fn watch(&self, group: &Arc<Group>) {
        let mut state = self.shared.lock();
        state.groups.push(Arc::clone(group));
        if state.stopping {
            drop(state);
            group.end(Why::Stopping, None);
        } else {
            self.shared.wake_by(&state, group.deadline());
        }
    }

    /// Has all groups looked at then, if not earlier.
    pub fn look_at(&self, when: Instant) {
        self.shared.wake_by(&self.shared.lock(), when);
    }

    /// The group is gone.
    pub fn forget(&self, group: &Group) {
        let mut state = self.shared.lock();
        state.groups.retain(|other| !std::ptr::eq(Arc::as_ptr(other), group));
        if state.stopping {
            self.shared.changed.notify_all();
        }
    }

    /// Ends all groups, and waits until they are gone. None is started afterwards.
    pub fn stop(&self) {
        let until = Instant::now() + STOP;
        let mut state = self.shared.lock();
        state.stopping = true;
        let groups = state.groups.clone();
        drop(state);
        for group in groups {
            group.end(Why::Stopping, None);
        }
        let mut state = self.shared.lock();
        self.shared.changed.notify_all();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.groups.is_empty() || left.is_zero() {
                return;
            }
            self.shared.changed.wait_for(&mut state, left);
        }
    }
}

impl Shared {
    fn keep(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let mut next = now + LONG;
            state.groups.retain(|group| match group.tend(now) {
                Some(due) => {
                    next = next.min(due);
                    true
                }
                None => false,
            });
            if state.stopping && state.groups.is_empty() {
                self.changed.notify_all();
                return;
            }
            state.wakes = Some(next);
            let left = next.saturating_duration_since(Instant::now());
            self.changed.wait_for(&mut state, left);
            state.wakes = None;
        }
    }

    fn wake_by(&self, state: &State, when: Instant) {
        if state.wakes.is_some_and(|wakes| when < wakes) {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
