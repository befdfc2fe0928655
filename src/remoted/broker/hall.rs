//! Where callers wait: the paths that are taken, and who waits for which server.
//!
//! In scope: finding, adding and removing both, and one thread that watches all who wait. Not in
//! scope: what a registration does with what it is told.
//!
//! The thread watches for the end of a connection only, never for bytes: those stay in the socket,
//! which takes 64 KiB or so and then stops its sender.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::Shared;
use super::limits::Bounds;
use super::refusal::Refusal;
use super::request::Meeting;
use super::server::{End, Registration};
use super::visit::{Refused, Visitor};
use crate::remoted::keys::{Key, Keyring};
use crate::remoted::pool;
use crate::remoted::waker::Waker;

/// The token of the waker; no caller has it.
const WAKER: u64 = 0;
/// Events taken at once.
const EVENTS: usize = 64;
/// Most bytes of a caller that are thrown away so that it sees the answer instead of a reset.
const MAX_DISCARDED: usize = 4 * pool::SIZE;

/// A caller that waits for its server.
pub(super) struct Waiting {
    pub visitor: Visitor,
    pub meeting: Meeting,
    pub key: Arc<Key>,
    pub registration: Arc<Registration>,
    /// What it asked for, in seconds.
    pub timeout_s: u64,
    /// When it is told that nobody came.
    pub deadline: Instant,
}

/// Paths and waiting callers.
pub(super) struct Hall {
    /// Guards who is registered and who waits. Nothing waits while it is held; the calls to the
    /// operating system under it only change what is watched.
    state: Mutex<State>,
    epoll: OwnedFd,
    waker: Waker,
    bounds: Bounds,
}

#[derive(Default)]
struct State {
    paths: HashMap<String, Arc<Registration>>,
    waiting: HashMap<u64, Waiting>,
    meetings: HashMap<Meeting, u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    last_token: u64,
    is_stopping: bool,
}

/// Why a path was not given to a server.
pub(super) enum Taken {
    /// Somebody has it.
    By(Arc<Registration>),
    /// There are too many.
    Full(&'static str),
}

impl Hall {
    pub fn new(bounds: Bounds) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = Waker::new()?;
        epoll::add(&epoll, &waker, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
        Ok(Self { state: Mutex::default(), epoll, waker, bounds })
    }

    /// Who has this path.
    pub fn find(&self, path: &str) -> Option<Arc<Registration>> {
        self.lock().paths.get(path).cloned()
    }

    /// Gives its path to a server, if it is free.
    pub fn register(&self, new: &Arc<Registration>) -> Result<(), Taken> {
        let mut state = self.lock();
        if state.is_stopping {
            return Err(Taken::Full("the broker is stopping"));
        }
        if let Some(holder) = state.paths.get(&new.path) {
            return Err(Taken::By(Arc::clone(holder)));
        }
        if state.paths.len() >= self.bounds.registrations {
            return Err(Taken::Full("too many paths are registered"));
        }
        let of_key = state.paths.values().filter(|other| other.key.is(&new.key)).count();
        if of_key >= self.bounds.registrations_per_key {
            return Err(Taken::Full("too many paths are registered with this key"));
        }
        state.paths.insert(new.path.clone(), Arc::clone(new));
        Ok(())
    }

    /// Gives the path of one server to another. False if that one does not have it any more.
    pub fn replace(&self, holder: &Arc<Registration>, new: &Arc<Registration>) -> bool {
        let mut state = self.lock();
        let is_stopping = state.is_stopping;
        match state.paths.get_mut(&new.path) {
            Some(found) if Arc::ptr_eq(found, holder) && !is_stopping => {
                *found = Arc::clone(new);
                true
            }
            _ => false,
        }
    }

    /// Frees the path of a server, if it still has it, and returns the callers that waited for it.
    pub fn unregister(&self, gone: &Arc<Registration>) -> Vec<Waiting> {
        let mut state = self.lock();
        if state.paths.get(&gone.path).is_some_and(|found| Arc::ptr_eq(found, gone)) {
            state.paths.remove(&gone.path);
        }
        self.take_all(&mut state, |waiting| Arc::ptr_eq(&waiting.registration, gone))
    }

    /// Has a caller wait, and tells its server.
    pub fn wait(&self, caller: Waiting, notice: String) -> Result<(), Box<Refused>> {
        let mut state = self.lock();
        let held = state.paths.get(&caller.registration.path);
        let is_held = held.is_some_and(|held| Arc::ptr_eq(held, &caller.registration));
        let of_path = || {
            let same = |w: &&Waiting| Arc::ptr_eq(&w.registration, &caller.registration);
            state.waiting.values().filter(same).count()
        };
        let refusal = if !is_held {
            Some(Refusal::no_destination())
        } else if state.meetings.contains_key(&caller.meeting) {
            Some(Refusal::caller("another caller waits with its WebRoute-ID"))
        } else if state.waiting.len() >= self.bounds.waiting {
            Some(Refusal::full("too many callers wait"))
        // Counting is left out where it cannot matter.
        } else if state.waiting.len() >= self.bounds.waiting_per_path
            && of_path() >= self.bounds.waiting_per_path
        {
            Some(Refusal::full("too many callers wait for this path"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Err(caller.visitor.refused(refusal));
        }
        let token = state.last_token + 1;
        // An end of either direction, or an error, which is always told.
        let events = epoll::EventFlags::RDHUP;
        let data = epoll::EventData::new_u64(token);
        if let Err(error) = epoll::add(&self.epoll, caller.visitor.stream.input(), data, events) {
            let refusal = Refusal::full(&format!("it cannot be watched: {error}"));
            return Err(caller.visitor.refused(refusal));
        }
        let is_first = state.deadlines.first().is_none_or(|(first, _)| caller.deadline < *first);
        if !caller.registration.tell(notice) {
            let _ = epoll::delete(&self.epoll, caller.visitor.stream.input());
            let refusal = Refusal::full("its server does not take in what it is told");
            return Err(caller.visitor.refused(refusal));
        }
        state.last_token = token;
        state.meetings.insert(caller.meeting.clone(), token);
        state.deadlines.insert((caller.deadline, token));
        state.waiting.insert(token, caller);
        drop(state);
        if is_first {
            self.waker.wake();
        }
        Ok(())
    }

    /// The caller that waits with this id, who waits no more.
    pub fn meet(&self, meeting: &Meeting) -> Option<Waiting> {
        let mut state = self.lock();
        let token = *state.meetings.get(meeting)?;
        self.take(&mut state, token)
    }

    /// Ends all registrations and all waiting.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        let servers: Vec<_> = state.paths.drain().map(|(_, server)| server).collect();
        let callers = self.take_all(&mut state, |_| true);
        drop(state);
        self.waker.wake();
        for server in servers {
            server.end(End::Stopping);
        }
        for caller in callers {
            tell_closed(caller, "the broker is stopping");
        }
    }

    fn take(&self, state: &mut State, token: u64) -> Option<Waiting> {
        let Entry::Occupied(entry) = state.waiting.entry(token) else { return None };
        let waiting = entry.remove();
        state.meetings.remove(&waiting.meeting);
        state.deadlines.remove(&(waiting.deadline, token));
        // It fails only for what is not watched.
        let _ = epoll::delete(&self.epoll, waiting.visitor.stream.input());
        Some(waiting)
    }

    fn take_all(&self, state: &mut State, is_meant: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let meant = state.waiting.iter().filter(|(_, waiting)| is_meant(waiting));
        let tokens: Vec<u64> = meant.map(|(token, _)| *token).collect();
        tokens.into_iter().filter_map(|token| self.take(state, token)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Ends what a key that is gone was good for. Returns how many registrations and waiting callers.
pub(super) fn dismiss(shared: &Shared, keyring: &Keyring) -> (usize, usize) {
    let hall = &shared.hall;
    let mut state = hall.lock();
    let is_gone = |server: &Arc<Registration>| !keyring.keeps(&server.key, &server.path);
    let servers: Vec<_> = state.paths.values().filter(|server| is_gone(server)).cloned().collect();
    let callers = hall.take_all(&mut state, |waiting| {
        let path = &waiting.registration.path;
        !keyring.keeps(&waiting.key, path) || is_gone(&waiting.registration)
    });
    state.paths.retain(|_, server| !is_gone(server));
    drop(state);
    for server in &servers {
        server.end(End::KeyGone);
    }
    let counts = (servers.len(), callers.len());
    for caller in callers {
        tell_closed(caller, "a key is gone");
    }
    counts
}

/// The thread that watches all who wait, until the hall is stopped.
pub(super) fn watch(shared: &Shared) {
    let hall = &shared.hall;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let (due, next) = {
            let mut state = hall.lock();
            if state.is_stopping {
                return;
            }
            let now = Instant::now();
            let over = state.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
            let tokens: Vec<u64> = over.map(|(_, token)| *token).collect();
            let due: Vec<_> = tokens.iter().filter_map(|t| hall.take(&mut state, *t)).collect();
            (due, state.deadlines.first().map(|(deadline, _)| *deadline))
        };
        for caller in due {
            give_up(caller);
        }
        let timeout = next.and_then(|deadline| {
            Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok()
        });
        events.clear();
        match epoll::wait(&hall.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => log::error!("callers that leave are not noticed: {error}"),
        }
        for event in &events {
            match event.data.u64() {
                WAKER => hall.waker.clear(),
                token => {
                    let left = hall.take(&mut hall.lock(), token);
                    if let Some(caller) = left {
                        let Waiting { visitor, registration, .. } = caller;
                        log::warn!(
                            "caller {}: left {} before its server came",
                            visitor.name,
                            registration.path
                        );
                    }
                }
            }
        }
    }
}

/// Tells a caller that its server never came.
fn give_up(caller: Waiting) {
    let refusal = Refusal::unanswered();
    let Waiting { mut visitor, registration, .. } = caller;
    log::warn!("caller {}: 504 on {}: {}", visitor.name, registration.path, refusal.reason);
    // A socket that has not sent anything yet takes this at once; one that does not is of no use.
    let _ = io::Write::write(&mut visitor.stream, &refusal.answer(false));
    let _ = visitor.stream.close_writing();
    // Closing with bytes unread would send a reset, which may overtake the answer.
    let mut discarded = 0;
    let mut buffer = pool::buffer();
    while discarded < MAX_DISCARDED {
        match visitor.stream.read(&mut buffer) {
            Ok(count) if count > 0 => discarded += count,
            _ => break,
        }
    }
    pool::give_back_buffer(buffer);
}

/// Closes a caller whose server will not come. Like the original without a word.
pub(super) fn tell_closed(caller: Waiting, why: &str) {
    let Waiting { visitor, registration, .. } = caller;
    log::warn!("caller {}: closed while waiting on {}: {why}", visitor.name, registration.path);
}
