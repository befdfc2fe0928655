//! Who is connected, by name, and the requests that wait for absent peers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::known_names::KnownNames;
use crate::link::Link;

/// Maximum requests waiting for peers.
const MAX_WAITING: usize = 1024;
/// Maximum requests among these for names that no client ever had: the rest of the room is for those
/// that are known.
const MAX_WAITING_UNKNOWN: usize = MAX_WAITING / 2;

/// The links of a node.
#[derive(Default)]
pub(super) struct PeerTable {
    /// Guards the table. Never held across I/O.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: HashMap<String, Entry>,
    known: KnownNames,
    /// The requests that wait, by a number of their own.
    waiting: HashMap<u64, Waiter>,
    last_waiter: u64,
    stopping: bool,
    /// All links lead to equivalent servers: requests go to the least loaded one.
    alike: bool,
}

struct Entry {
    link: Arc<Link>,
    number: u64,
    /// The previous link, while it finishes what is in flight.
    superseded: Option<Arc<Link>>,
}

/// A request that waits.
struct Waiter {
    key: String,
    /// A client with another name may be the right one.
    by_address: bool,
    /// No client ever had the name, and it is no address.
    is_unknown: bool,
    /// Wakes it. One pending wake-up is enough.
    wake: Sender<()>,
}

/// The place of a request among those that wait; dropping it gives the place back.
pub(super) struct WaitingPlace<'a> {
    table: &'a PeerTable,
    number: u64,
    changed: Receiver<()>,
}

/// The result of [`PeerTable::add`].
pub(super) enum Added {
    /// There was no link of this name.
    First,
    /// It replaced this link, which has to be closed, and possibly an even older one.
    InPlaceOf(Arc<Link>, Option<Arc<Link>>),
    /// It replaced another link, which the client closes. An even older one has to be closed here.
    Superseding(Option<Arc<Link>>),
    /// A newer link is present already: this one has to be closed.
    TooLate,
}

/// The link that a caller is looking for.
pub(super) struct PeerQuery<'a> {
    /// The peer's name.
    pub name: &'a str,
    /// Addresses to match if there never was a peer of that name.
    pub addresses: &'a [IpAddr],
}

/// Why no link was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FindError {
    /// There is no such peer now.
    Away,
    /// Several peers have one of the addresses; these are their names.
    Ambiguous(Vec<String>),
    /// The node is stopping.
    Stopping,
}

impl PeerTable {
    /// A table for a client: a request goes to the least loaded of its servers, whatever the name.
    pub fn of_servers() -> Self {
        let state = State { alike: true, ..State::default() };
        Self { state: Mutex::new(state) }
    }

    /// Adds a link under a name; the newest connection of a name wins. `number` counts connections
    /// in the order of their authentication. `supersedes`: an older link finishes what is in flight
    /// and is closed by its client. `note` is called under the lock with the result and the number
    /// of peers; it must not block.
    pub fn add(
        &self,
        name: &str,
        link: &Arc<Link>,
        number: u64,
        supersedes: bool,
        note: impl FnOnce(&Added, usize),
    ) -> Added {
        let name = key(name);
        let mut state = self.state.lock();
        if state.links.get(&name).is_some_and(|entry| entry.number > number) {
            return Added::TooLate;
        }
        state.known.add(&name);
        let old = state.links.remove(&name);
        let mut entry = Entry { link: Arc::clone(link), number, superseded: None };
        let added = match old {
            None => Added::First,
            Some(old) if supersedes => {
                entry.superseded = Some(old.link);
                Added::Superseding(old.superseded)
            }
            Some(old) => Added::InPlaceOf(old.link, old.superseded),
        };
        state.wake(|waiter| waiter.by_address || waiter.key == name);
        state.links.insert(name, entry);
        note(&added, state.links.len());
        added
    }

    /// Removes a link that has ended. If no other link had replaced it, `note` is called with the
    /// number of remaining peers, as in [`PeerTable::add`].
    pub fn remove(&self, name: &str, link: &Arc<Link>, note: impl FnOnce(usize)) {
        let name = key(name);
        let mut state = self.state.lock();
        if state.links.get(&name).is_some_and(|entry| Arc::ptr_eq(&entry.link, link)) {
            state.links.remove(&name);
            note(state.links.len());
        } else if let Some(entry) = state.links.get_mut(&name) {
            entry.superseded.take_if(|superseded| Arc::ptr_eq(superseded, link));
        }
    }

    /// Number of requests waiting for absent peers.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Whether a peer of this name is or was connected.
    pub fn knows(&self, name: &str) -> bool {
        self.state.lock().knows(&key(name))
    }

    /// The link of this name, if it is connected.
    pub fn named(&self, name: &str) -> Option<Arc<Link>> {
        self.state.lock().named(name)
    }

    /// The links that may take requests.
    pub fn open(&self) -> Vec<Arc<Link>> {
        let state = self.state.lock();
        let links = state.links.values().map(|entry| &entry.link);
        links.filter(|link| link.is_open()).map(Arc::clone).collect()
    }

    /// Whether this link takes its peer's requests.
    pub fn asks_by(&self, link: &Arc<Link>) -> bool {
        let state = self.state.lock();
        let is_it = |entry: &Entry| Arc::ptr_eq(&entry.link, link);
        match state.alike {
            true => state.links.values().any(is_it),
            false => state.links.get(&key(&link.peer().name)).is_some_and(is_it),
        }
    }

    /// Finds the link, if it is connected.
    pub fn find(&self, wanted: &PeerQuery<'_>) -> Result<Arc<Link>, FindError> {
        let state = self.state.lock();
        match state.find(wanted) {
            // Even while the node is stopping: its callers' requests are finished.
            Some(found) => found,
            None if state.stopping => Err(FindError::Stopping),
            None => Err(FindError::Away),
        }
    }

    /// Takes a place among the requests that wait: it hears of a peer of this name that comes, with
    /// `by_address` of any that comes, and of the node's stop. `None` if too many wait.
    pub fn wait_for(&self, name: &str, by_address: bool) -> Option<WaitingPlace<'_>> {
        let mut state = self.state.lock();
        let key = key(name);
        // Whatever its name, any server will do.
        let by_address = by_address || state.alike;
        let is_unknown = !by_address && !state.knows(&key);
        let unknown = || state.waiting.values().filter(|waiter| waiter.is_unknown).count();
        let is_full = state.waiting.len() >= MAX_WAITING;
        if is_full || (is_unknown && unknown() >= MAX_WAITING_UNKNOWN) {
            return None;
        }
        let (wake, changed) = bounded(1);
        state.last_waiter += 1;
        let number = state.last_waiter;
        state.waiting.insert(number, Waiter { key, by_address, is_unknown, wake });
        Some(WaitingPlace { table: self, number, changed })
    }

    /// Ends every wait, and permits no new one.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        state.wake(|_| true);
    }
}

impl WaitingPlace<'_> {
    /// Gets a message when it is worth looking again.
    pub fn changed(&self) -> &Receiver<()> {
        &self.changed
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.table.state.lock().waiting.remove(&self.number);
    }
}

impl State {
    fn wake(&self, is_meant: impl Fn(&Waiter) -> bool) {
        for waiter in self.waiting.values().filter(|waiter| is_meant(waiter)) {
            // Full: it looks again anyway.
            let _ = waiter.wake.try_send(());
        }
    }

    fn knows(&self, key: &str) -> bool {
        self.known.contains(key) || self.links.contains_key(key)
    }

    fn named(&self, name: &str) -> Option<Arc<Link>> {
        if self.alike && self.links.len() > 1 {
            let open = self.links.values().map(|entry| &entry.link).filter(|link| link.is_open());
            return open.min_by_key(|link| link.in_flight()).map(Arc::clone);
        }
        let entry = match self.links.get(name) {
            None if self.alike => self.links.values().next()?,
            None => self.links.get(&key(name))?,
            Some(entry) => entry,
        };
        entry.link.is_open().then(|| Arc::clone(&entry.link))
    }

    fn find(&self, wanted: &PeerQuery<'_>) -> Option<Result<Arc<Link>, FindError>> {
        if let Some(link) = self.named(wanted.name) {
            return Some(Ok(link));
        }
        // A client's name means that client alone.
        if wanted.addresses.is_empty() || self.knows(&key(wanted.name)) {
            return None;
        }
        let mut matching = self
            .links
            .values()
            .map(|entry| &entry.link)
            .filter(|link| wanted.addresses.contains(&link.peer().address) && link.is_open());
        let first = matching.next()?;
        let mut names: Vec<String> = matching.map(|link| link.peer().name.clone()).collect();
        if names.is_empty() {
            return Some(Ok(Arc::clone(first)));
        }
        names.push(first.peer().name.clone());
        names.sort();
        Some(Err(FindError::Ambiguous(names)))
    }
}

/// Names are DNS names, which are case-insensitive.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_leave_room_for_those_who_wait_for_known_ones() {
        let peers = PeerTable::default();
        let (link, _) = Link::unconnected("web1");
        peers.add("web1", &link, 1, false, |_, _| ());
        peers.remove("web1", &link, |_| ());
        let unknown = |number: usize| peers.wait_for(&format!("made-up-{number}"), false);
        let made_up: Vec<_> = (0..MAX_WAITING).map_while(unknown).collect();
        assert_eq!(made_up.len(), MAX_WAITING_UNKNOWN);
        let known = |number: usize| match number % 2 {
            0 => peers.wait_for("Web1", false),
            _ => peers.wait_for("192.0.2.7", true),
        };
        let known: Vec<_> = (0..MAX_WAITING).map_while(known).collect();
        assert_eq!(known.len(), MAX_WAITING - MAX_WAITING_UNKNOWN);
        drop(made_up);
        assert_eq!(peers.waiting(), known.len());
        assert!(unknown(0).is_some());
    }
}
