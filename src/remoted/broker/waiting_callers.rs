//! Which server holds which path, and which callers wait for which server.
//!
//! In scope: finding, adding and removing both, and one thread that watches all waiting callers. Not in
//! scope: what a server does with a notice.
//!
//! The thread watches for disconnects only, never for bytes: those stay in the socket, which buffers
//! about 64 KiB and then stops its sender.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::refusal::BrokerRefusal;
use super::registered_server::{EvictionReason, RegisteredServer};
use super::request::RendezvousId;
use super::settings::{Bounds, KEY_WEIGHT};
use super::visitor::{RefusedVisitor, Visitor};
use crate::remoted::keys::{KeyEntry, Keyring};
use crate::remoted::waker::Waker;
use crate::sync::deadline::time_left;

/// The token of the waker; no caller has it.
const WAKER_TOKEN: u64 = 0;
/// Maximum number of events per wait.
const MAX_EVENTS: usize = 64;

/// A caller that waits for its server.
pub(super) struct WaitingCaller {
    pub visitor: Visitor,
    pub rendezvous: RendezvousId,
    pub key: Arc<KeyEntry>,
    pub registration: Arc<RegisteredServer>,
    /// The timeout that it asked for, in seconds.
    pub timeout_s: u64,
    /// When it gets a 504.
    pub deadline: Instant,
}

/// The paths of a broker, and the waiting callers.
pub(super) struct WaitingCallers {
    /// Registered servers and waiting callers. Never held across I/O: the system calls under this lock
    /// only change the set of watched sockets.
    state: Mutex<State>,
    epoll: OwnedFd,
    waker: Waker,
    bounds: Bounds,
}

#[derive(Default)]
struct State {
    paths: HashMap<String, Arc<RegisteredServer>>,
    waiting: HashMap<u64, WaitingCaller>,
    tokens: HashMap<RendezvousId, u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    last_token: u64,
    is_stopping: bool,
}

/// Why a server does not get its path.
pub(super) enum PathUnavailable {
    /// This server holds it.
    Taken(Arc<RegisteredServer>),
    /// A bound is reached, or the broker is stopping.
    Full(&'static str),
}

impl WaitingCallers {
    pub fn new(bounds: Bounds) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = Waker::new()?;
        epoll::add(&epoll, &waker, epoll::EventData::new_u64(WAKER_TOKEN), epoll::EventFlags::IN)?;
        Ok(Self { state: Mutex::default(), epoll, waker, bounds })
    }

    /// The server that holds this path.
    pub fn find(&self, path: &str) -> Option<Arc<RegisteredServer>> {
        self.state.lock().paths.get(path).cloned()
    }

    /// Registers a server on its path, if that is free.
    pub fn register(&self, new: &Arc<RegisteredServer>) -> Result<(), PathUnavailable> {
        let mut state = self.state.lock();
        if state.is_stopping {
            return Err(PathUnavailable::Full("the broker is stopping"));
        }
        if let Some(holder) = state.paths.get(&new.path) {
            return Err(PathUnavailable::Taken(Arc::clone(holder)));
        }
        if state.paths.len() >= self.bounds.registrations {
            return Err(PathUnavailable::Full("too many paths are registered"));
        }
        let of_key = state.paths.values().filter(|other| other.key.is(&new.key)).count();
        let free = self.bounds.registrations - state.paths.len();
        if of_key >= self.bounds.registrations_per_key.min(KEY_WEIGHT * free) {
            return Err(PathUnavailable::Full("too many paths are registered with this key"));
        }
        state.paths.insert(new.path.clone(), Arc::clone(new));
        Ok(())
    }

    /// Passes a path from one server to another. False if the first no longer holds it.
    pub fn replace(&self, holder: &Arc<RegisteredServer>, new: &Arc<RegisteredServer>) -> bool {
        let mut state = self.state.lock();
        let is_stopping = state.is_stopping;
        match state.paths.get_mut(&new.path) {
            Some(found) if Arc::ptr_eq(found, holder) && !is_stopping => {
                *found = Arc::clone(new);
                true
            }
            _ => false,
        }
    }

    /// Frees the path of a server, if it still holds it, and returns the callers that waited for it.
    pub fn unregister(&self, gone: &Arc<RegisteredServer>) -> Vec<WaitingCaller> {
        let mut state = self.state.lock();
        if state.paths.get(&gone.path).is_some_and(|found| Arc::ptr_eq(found, gone)) {
            state.paths.remove(&gone.path);
        }
        self.take_all(&mut state, |waiting| Arc::ptr_eq(&waiting.registration, gone))
    }

    /// Queues a caller and notifies its server.
    pub fn wait(&self, caller: WaitingCaller, notice: String) -> Result<(), Box<RefusedVisitor>> {
        let mut state = self.state.lock();
        let held = state.paths.get(&caller.registration.path);
        let is_held = held.is_some_and(|held| Arc::ptr_eq(held, &caller.registration));
        let of_path = || {
            let same = |w: &&WaitingCaller| Arc::ptr_eq(&w.registration, &caller.registration);
            state.waiting.values().filter(same).count()
        };
        let of_key = || {
            let same = |w: &&WaitingCaller| w.key.is(&caller.key);
            state.waiting.values().filter(same).count()
        };
        let free = self.bounds.waiting.saturating_sub(state.waiting.len());
        let refusal = if !is_held {
            Some(BrokerRefusal::no_destination())
        } else if state.tokens.contains_key(&caller.rendezvous) {
            Some(BrokerRefusal::caller("another caller waits with its WebRoute-ID"))
        } else if state.waiting.len() >= self.bounds.waiting {
            Some(BrokerRefusal::full("too many callers wait"))
        // Skips counting where it cannot matter.
        } else if state.waiting.len() >= self.bounds.waiting_per_path
            && of_path() >= self.bounds.waiting_per_path
        {
            Some(BrokerRefusal::full("too many callers wait for this path"))
        } else if state.waiting.len() >= KEY_WEIGHT * free && of_key() >= KEY_WEIGHT * free {
            Some(BrokerRefusal::full("too many callers wait with its key"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Err(caller.visitor.refused(refusal));
        }
        let token = state.last_token + 1;
        // The end of either direction; errors are always reported.
        let events = epoll::EventFlags::RDHUP;
        let data = epoll::EventData::new_u64(token);
        if let Err(error) = epoll::add(&self.epoll, caller.visitor.stream.input(), data, events) {
            let refusal = BrokerRefusal::full(&format!("it cannot be watched: {error}"));
            return Err(caller.visitor.refused(refusal));
        }
        let is_first = state.deadlines.first().is_none_or(|(first, _)| caller.deadline < *first);
        if !caller.registration.notify(notice) {
            let _ = epoll::delete(&self.epoll, caller.visitor.stream.input());
            let refusal = BrokerRefusal::full("its server does not read its notices");
            return Err(caller.visitor.refused(refusal));
        }
        state.last_token = token;
        state.tokens.insert(caller.rendezvous.clone(), token);
        state.deadlines.insert((caller.deadline, token));
        state.waiting.insert(token, caller);
        drop(state);
        if is_first {
            self.waker.wake();
        }
        Ok(())
    }

    /// Removes the waiting caller with this id.
    pub fn take_waiting(&self, rendezvous: &RendezvousId) -> Option<WaitingCaller> {
        let mut state = self.state.lock();
        let token = *state.tokens.get(rendezvous)?;
        self.take(&mut state, token)
    }

    /// Ends all registrations and closes all waiting callers.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.is_stopping = true;
        let servers: Vec<_> = state.paths.drain().map(|(_, server)| server).collect();
        let callers = self.take_all(&mut state, |_| true);
        drop(state);
        self.waker.wake();
        for server in servers {
            server.end(EvictionReason::Stopping);
        }
        for caller in callers {
            log_closed(caller, "the broker is stopping");
        }
    }

    fn take(&self, state: &mut State, token: u64) -> Option<WaitingCaller> {
        let Entry::Occupied(entry) = state.waiting.entry(token) else { return None };
        let waiting = entry.remove();
        state.tokens.remove(&waiting.rendezvous);
        state.deadlines.remove(&(waiting.deadline, token));
        // It fails only for a socket that is not watched.
        let _ = epoll::delete(&self.epoll, waiting.visitor.stream.input());
        Some(waiting)
    }

    fn take_all(
        &self,
        state: &mut State,
        is_chosen: impl Fn(&WaitingCaller) -> bool,
    ) -> Vec<WaitingCaller> {
        let chosen = state.waiting.iter().filter(|(_, waiting)| is_chosen(waiting));
        let tokens: Vec<u64> = chosen.map(|(token, _)| *token).collect();
        tokens.into_iter().filter_map(|token| self.take(state, token)).collect()
    }

    /// Ends the registrations and waits whose keys are no longer valid. Returns the number of each.
    pub fn revoke(&self, keyring: &Keyring) -> (usize, usize) {
        let mut state = self.state.lock();
        let is_revoked = |server: &Arc<RegisteredServer>| !keyring.keeps(&server.key, &server.path);
        let servers: Vec<_> =
            state.paths.values().filter(|server| is_revoked(server)).cloned().collect();
        let callers = self.take_all(&mut state, |waiting| {
            let path = &waiting.registration.path;
            !keyring.keeps(&waiting.key, path) || is_revoked(&waiting.registration)
        });
        state.paths.retain(|_, server| !is_revoked(server));
        drop(state);
        for server in &servers {
            server.end(EvictionReason::KeyRemoved);
        }
        let counts = (servers.len(), callers.len());
        for caller in callers {
            log_closed(caller, "a key is gone");
        }
        counts
    }

    /// Watches all waiting callers until the broker stops.
    pub fn watch(&self) {
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            let (due, next) = {
                let mut state = self.state.lock();
                if state.is_stopping {
                    return;
                }
                let now = Instant::now();
                let over = state.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
                let tokens: Vec<u64> = over.map(|(_, token)| *token).collect();
                let due: Vec<_> =
                    tokens.into_iter().filter_map(|token| self.take(&mut state, token)).collect();
                (due, state.deadlines.first().map(|(deadline, _)| *deadline))
            };
            due.into_iter().for_each(answer_timeout);
            // Beyond the range of a `Timespec` there is no limit.
            let timeout = next.and_then(|deadline| Timespec::try_from(time_left(deadline)).ok());
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => log::error!("callers that leave are not noticed: {error}"),
            }
            for event in &events {
                match event.data.u64() {
                    WAKER_TOKEN => self.waker.clear(),
                    token => {
                        let left = self.take(&mut self.state.lock(), token);
                        if let Some(WaitingCaller { visitor, registration, .. }) = left {
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
}

/// Answers a caller whose server did not come in time. It never blocks: the watching thread calls it.
fn answer_timeout(caller: WaitingCaller) {
    let refusal = BrokerRefusal::unanswered();
    let WaitingCaller { mut visitor, registration, .. } = caller;
    log::warn!("caller {}: 504 on {}: {}", visitor.name, registration.path, refusal.reason);
    // A socket on which nothing was sent yet accepts this at once.
    let now = Instant::now();
    let _ = visitor.stream.write_all_within(&refusal.answer(false), now);
    visitor.stream.finish_within(now);
}

/// Closes a caller whose server will not come: like the original, without a response.
pub(super) fn log_closed(caller: WaitingCaller, why: &str) {
    let WaitingCaller { visitor, registration, .. } = caller;
    log::warn!("caller {}: closed while waiting on {}: {why}", visitor.name, registration.path);
}
