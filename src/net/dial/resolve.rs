//! Resolving host names with a deadline, which the system's resolver lacks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::sync::permits::Permits;
use crate::sync::threads;

/// Most lookups at once; each occupies a thread for as long as the system takes.
const MAX_LOOKUPS: usize = 16;
/// How long an answer is cached, so that not every request waits for a lookup.
const CACHE_TIME: Duration = Duration::from_secs(5);
/// Most answers in the cache.
const MAX_CACHED: usize = 256;

/// Looks host names up.
#[derive(Debug)]
pub(crate) struct Resolver {
    lookups: Arc<Permits>,
    /// Guards the answers; never held during a lookup.
    cached: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { lookups: Permits::new(MAX_LOOKUPS), cached: Mutex::default() }
    }
}

impl Resolver {
    /// The addresses of a host; an address is its own answer. [`io::ErrorKind::ResourceBusy`] if
    /// there were too many lookups to start one.
    pub fn resolve(&self, host: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address.to_canonical()]);
        }
        let now = Instant::now();
        if let Some((at, addresses)) = self.cached.lock().get(host)
            && now.duration_since(*at) < CACHE_TIME
        {
            return Ok(addresses.clone());
        }
        let addresses = self.look_up(host, timeout)?;
        let mut cached = self.cached.lock();
        if cached.len() >= MAX_CACHED {
            cached.retain(|_, (at, _)| now.duration_since(*at) < CACHE_TIME);
        }
        if cached.len() < MAX_CACHED {
            cached.insert(host.to_owned(), (now, addresses.clone()));
        }
        Ok(addresses)
    }

    fn look_up(&self, host: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
        let Some(permit) = self.lookups.take() else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many lookups at once"));
        };
        let (found, answer) = bounded(1);
        let name = host.to_owned();
        threads::spawn("resolve", move || {
            let _permit = permit;
            let addresses = (name.as_str(), 0).to_socket_addrs().map(|addresses| {
                let mut addresses: Vec<IpAddr> =
                    addresses.map(|address| address.ip().to_canonical()).collect();
                addresses.dedup();
                addresses
            });
            // Disconnected: the caller has timed out.
            let _ = found.try_send(addresses);
        })?;
        answer
            .recv_timeout(timeout)
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_needs_no_lookup_and_localhost_is_this_machine() {
        let resolver = Resolver::default();
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let second = Duration::from_secs(5);
        assert_eq!(resolver.resolve("::ffff:127.0.0.1", second).unwrap(), [loopback]);
        assert!(resolver.resolve("localhost", second).unwrap().contains(&loopback));
        assert_eq!(resolver.cached.lock().len(), 1);
        assert!(resolver.resolve("no-such-name.invalid", second).is_err());
    }

    #[test]
    fn lookups_are_bounded() {
        let resolver = Resolver::default();
        let _running: Vec<_> = (0..MAX_LOOKUPS).map_while(|_| resolver.lookups.take()).collect();
        let error = resolver.resolve("localhost", Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }
}
