//! Resolving host names with a deadline, which the system's resolver lacks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use parking_lot::Mutex;

use crate::sync::permits::Permits;
use crate::sync::threads;

/// Most lookups at once; each occupies a thread for as long as the system takes.
const MAX_LOOKUPS: usize = 16;
/// How long an answer is kept, so that not every request waits for a lookup.
const CACHE_TIME: Duration = Duration::from_secs(5);
/// Most names with a lookup that runs or an answer that is kept.
const MAX_NAMES: usize = 256;

/// Looks host names up.
#[derive(Debug)]
pub(crate) struct Resolver {
    permits: Arc<Permits>,
    /// Guards the lookups that run or whose answer is kept, by name in lower case; never held while
    /// the system looks one up.
    lookups: Mutex<HashMap<String, Lookup>>,
}

/// A lookup, running or answered. All who look for the same name at the same time share one.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    answer: Arc<OnceLock<Answer>>,
    /// Disconnects when the lookup has ended.
    ended: Receiver<()>,
}

/// What the system answered, and when.
#[derive(Debug)]
struct Answer {
    at: Instant,
    addresses: Result<Vec<IpAddr>, (io::ErrorKind, String)>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { permits: Permits::new(MAX_LOOKUPS), lookups: Mutex::default() }
    }
}

impl Resolver {
    /// The addresses of a host; an address is its own answer. [`io::ErrorKind::ResourceBusy`] if
    /// there were too many lookups to start one.
    pub fn resolve(&self, host: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address.to_canonical()]);
        }
        let lookup = self.look_up(host)?;
        // Nothing is sent: it disconnects.
        let _ = lookup.ended.recv_timeout(timeout);
        lookup
            .addresses()
            .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
    }

    /// Starts to look a name up, or joins the lookup that runs or was answered just now. Fails as
    /// [`Resolver::resolve`] does.
    pub fn look_up(&self, name: &str) -> io::Result<Lookup> {
        let mut lookups = self.lookups.lock();
        let key = name.to_ascii_lowercase();
        if let Some(lookup) = lookups.get(&key).filter(|lookup| lookup.is_usable()) {
            return Ok(lookup.clone());
        }
        let lookup = self.start(name)?;
        if lookups.len() >= MAX_NAMES {
            lookups.retain(|_, lookup| lookup.is_usable());
        }
        if lookups.len() < MAX_NAMES {
            lookups.insert(key, lookup.clone());
        }
        Ok(lookup)
    }

    fn start(&self, name: &str) -> io::Result<Lookup> {
        let Some(permit) = self.permits.take() else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many lookups at once"));
        };
        let (running, ended) = bounded::<()>(0);
        let lookup = Lookup { answer: Arc::default(), ended };
        let (name, answer) = (name.to_owned(), Arc::clone(&lookup.answer));
        threads::spawn("resolve", move || {
            let _running = (permit, running);
            let addresses = (name.as_str(), 0).to_socket_addrs().map(|addresses| {
                let mut addresses: Vec<IpAddr> =
                    addresses.map(|address| address.ip().to_canonical()).collect();
                addresses.dedup();
                addresses
            });
            let addresses = addresses.map_err(|error| (error.kind(), error.to_string()));
            answer.get_or_init(|| Answer { at: Instant::now(), addresses });
        })?;
        Ok(lookup)
    }
}

impl Lookup {
    /// Disconnects when the lookup has ended.
    pub fn ended(&self) -> &Receiver<()> {
        &self.ended
    }

    /// The answer; absent while the lookup runs.
    pub fn addresses(&self) -> Option<io::Result<Vec<IpAddr>>> {
        // Before the answer is looked at: a lookup that has ended has set it, unless it panicked.
        let runs = self.ended.try_recv() == Err(TryRecvError::Empty);
        match self.answer.get() {
            Some(answer) => {
                Some(answer.addresses.clone().map_err(|(kind, text)| io::Error::new(kind, text)))
            }
            None if runs => None,
            None => Some(Err(io::Error::other("the lookup failed"))),
        }
    }

    /// Whether it runs, or has an answer that is not too old. Failures are not kept.
    fn is_usable(&self) -> bool {
        match self.answer.get() {
            Some(answer) => answer.addresses.is_ok() && answer.at.elapsed() < CACHE_TIME,
            None => self.ended.try_recv() == Err(TryRecvError::Empty),
        }
    }
}

#[cfg(test)]
impl Lookup {
    /// A lookup that runs until the sender is dropped, and the place for its answer.
    fn running() -> (Self, crossbeam_channel::Sender<()>) {
        let (running, ended) = bounded(0);
        (Self { answer: Arc::default(), ended }, running)
    }
}

#[cfg(test)]
impl Resolver {
    /// Whether no name was looked up lately.
    pub fn is_idle(&self) -> bool {
        self.lookups.lock().is_empty()
    }

    /// Begins a lookup of `name` that runs until the test answers it.
    pub fn hold(&self, name: &str) -> HeldLookup {
        let (lookup, running) = Lookup::running();
        self.lookups.lock().insert(name.to_owned(), lookup.clone());
        HeldLookup { lookup, _running: running }
    }
}

/// A lookup that a test answers.
#[cfg(test)]
pub(crate) struct HeldLookup {
    lookup: Lookup,
    _running: crossbeam_channel::Sender<()>,
}

#[cfg(test)]
impl HeldLookup {
    /// Ends the lookup with these addresses; without any, it fails.
    pub fn answer(self, addresses: &[IpAddr]) {
        let addresses = match addresses {
            [] => Err((io::ErrorKind::NotFound, "no such name".to_owned())),
            addresses => Ok(addresses.to_vec()),
        };
        self.lookup.answer.get_or_init(|| Answer { at: Instant::now(), addresses });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_needs_no_lookup_and_localhost_is_this_machine() {
        let resolver = Resolver::default();
        let second = Duration::from_secs(5);
        assert_eq!(resolver.resolve("::ffff:127.0.0.1", second).unwrap(), [LOOPBACK]);
        assert!(resolver.resolve("localhost", second).unwrap().contains(&LOOPBACK));
        assert_eq!(resolver.lookups.lock().len(), 1);
        assert!(resolver.resolve("no-such-name.invalid", second).is_err());
    }

    #[test]
    fn lookups_are_bounded() {
        let resolver = Resolver::default();
        let _running: Vec<_> = (0..MAX_LOOKUPS).map_while(|_| resolver.permits.take()).collect();
        let error = resolver.resolve("localhost", Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn the_same_name_is_looked_up_once_and_each_waits_no_longer_than_it_wants() {
        let resolver = Resolver::default();
        let held = resolver.hold("slow.example");
        for _ in 0..2 * MAX_LOOKUPS {
            let error = resolver.resolve("Slow.example", Duration::from_millis(1)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let joined = resolver.look_up("slow.example").unwrap();
        assert!(joined.addresses().is_none());
        held.answer(&[LOOPBACK]);
        assert!(joined.ended().recv_timeout(Duration::from_secs(10)).is_err(), "it has ended");
        assert_eq!(joined.addresses().unwrap().unwrap(), [LOOPBACK]);
        assert_eq!(resolver.resolve("slow.example", Duration::ZERO).unwrap(), [LOOPBACK], "kept");
    }

    #[test]
    fn a_lookup_that_failed_or_panicked_is_begun_anew() {
        let resolver = Resolver::default();
        resolver.hold("localhost").answer(&[]);
        assert!(resolver.resolve("localhost", Duration::from_secs(10)).is_ok());
        let (lookup, running) = Lookup::running();
        drop(running);
        assert!(lookup.addresses().unwrap().is_err() && !lookup.is_usable());
    }
}
