//! Who is connected, by name, and the requests that wait for somebody who is not.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::link::Link;

/// Most requests that wait for peers at once.
const MAX_WAITING: usize = 1024;
/// Most names that are remembered after their link has gone.
const MAX_SEEN: usize = 65_536;

/// The links of a node.
#[derive(Default)]
pub(super) struct PeerTable {
    /// Guards who is connected; never held across I/O.
    state: Mutex<State>,
    /// A link came, or the node is stopping.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    links: HashMap<String, Entry>,
    seen: HashSet<String>,
    waiting: usize,
    stopping: bool,
    /// All are ways to the same: whichever has the least to do is asked.
    alike: bool,
}

struct Entry {
    link: Arc<Link>,
    number: u64,
    /// The one before it, while it finishes what is in flight.
    superseded: Option<Arc<Link>>,
}

/// What became of a link that was to be added.
pub(super) enum Added {
    /// There was none of this name.
    First,
    /// It has the place of this one, which has to go. There may be an older one still.
    InPlaceOf(Arc<Link>, Option<Arc<Link>>),
    /// It has the place of another, which its client ends. An older one of these has to go.
    Superseding(Option<Arc<Link>>),
    /// A newer one is there already: this one has to go.
    TooLate,
}

/// Which link is wanted.
pub(super) struct PeerQuery<'a> {
    /// The peer's name.
    pub name: &'a str,
    /// Addresses that will do where there is no peer of that name.
    pub addresses: &'a [IpAddr],
}

/// Why no link was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FindError {
    /// None came in time.
    Away,
    /// More than one has one of the addresses; these are their names.
    Ambiguous(Vec<String>),
    /// Too many requests wait already.
    Full,
    /// The node is stopping.
    Stopping,
}

impl PeerTable {
    /// A client's: whichever of its servers has the least to do is asked, under whatever name.
    pub fn of_servers() -> Self {
        let state = State { alike: true, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds a link under a name; the newest connection of a name wins. `number` counts connections
    /// in the order in which they were authenticated. `supersedes`: an older one finishes what is in
    /// flight and is ended by its client. `note` gets the result and the number of peers
    /// under the lock; it must not block.
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
        if state.seen.len() < MAX_SEEN {
            state.seen.insert(name.clone());
        }
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
        state.links.insert(name, entry);
        note(&added, state.links.len());
        drop(state);
        self.changed.notify_all();
        added
    }

    /// Removes a link that has ended, unless another has its place already. If it had the place, `note`
    /// gets the number of peers that are left, as for [`PeerTable::add`].
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

    /// How many requests wait for peers that are away.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// Whether a peer of this name is or was connected.
    pub fn knows(&self, name: &str) -> bool {
        self.state.lock().seen.contains(&key(name))
    }

    /// The link of this name, if it is there.
    pub fn named(&self, name: &str) -> Option<Arc<Link>> {
        self.state.lock().named(name)
    }

    /// The links that may be asked by.
    pub fn open(&self) -> Vec<Arc<Link>> {
        let state = self.state.lock();
        let links = state.links.values().map(|entry| &entry.link);
        links.filter(|link| link.is_open()).map(Arc::clone).collect()
    }

    /// Whether this is the link of its peer that is asked by.
    pub fn asks_by(&self, link: &Arc<Link>) -> bool {
        let state = self.state.lock();
        let is_it = |entry: &Entry| Arc::ptr_eq(&entry.link, link);
        match state.alike {
            true => state.links.values().any(is_it),
            false => state.links.get(&key(&link.peer().name)).is_some_and(is_it),
        }
    }

    /// The link that is wanted, waiting for it until the deadline.
    pub fn wait_for(
        &self,
        wanted: &PeerQuery<'_>,
        deadline: Instant,
    ) -> Result<Arc<Link>, FindError> {
        let mut state = self.state.lock();
        let mut counted = false;
        let found = loop {
            // Also where the node is stopping: its callers' requests are finished.
            if let Some(found) = state.find(wanted) {
                break found;
            }
            if state.stopping {
                break Err(FindError::Stopping);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(FindError::Away);
            }
            if !counted {
                if state.waiting >= MAX_WAITING {
                    break Err(FindError::Full);
                }
                state.waiting += 1;
                counted = true;
            }
            self.changed.wait_for(&mut state, left);
        };
        if counted {
            state.waiting -= 1;
        }
        found
    }

    /// Ends every wait, and lets no new one begin.
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }
}

impl State {
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
        if wanted.addresses.is_empty() {
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

/// Names are DNS names, which are the same in any case.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}
