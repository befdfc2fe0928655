//! Finding the link for a request: by the client's name, else by address, waiting while it is away.
//!
//! In scope: which client a name means, and for how long a request waits for it. Not in scope: who
//! is connected (`peer_table`), and what is sent (`requests`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};

use super::peer_table::{FindError, PeerQuery, PeerTable, WaitingPlace};
use crate::event::pipe::{Caller, Peer, RequestError};
use crate::link::Link;
use crate::net::dial::{Lookup, Resolver};
use crate::sync::deadline::time_left;

/// The key of a client's server in its peer table, whatever the certificate says.
pub(super) const SERVER: &str = "server";

/// The one host name that is always understood (RFC 6761, section 6.3); no lookup is needed for it.
const LOCALHOST: &str = "localhost";
/// The addresses of [`LOCALHOST`].
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// How long a lookup may take at least, however short the request's wait: else a request that waits
/// for nobody could name no host.
const MIN_LOOKUP_TIME: Duration = Duration::from_millis(200);

/// How often a waiting request checks whether its caller is still there.
const CALLER_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Finds the peers of requests.
pub(super) struct PeerFinder {
    pub peers: Arc<PeerTable>,
    pub resolver: Arc<Resolver>,
    /// Host names that may be looked up, in lower case, besides `localhost`.
    pub host_names: Vec<String>,
    /// Until then an unknown name may be that of a client that has not come back yet.
    pub unknown_until: Instant,
}

impl PeerFinder {
    /// The link of this peer, if it is connected and asked for by its name.
    pub fn named(&self, peer: Peer<'_>) -> Option<Arc<Link>> {
        self.peers.named(name_of(peer))
    }

    /// Finds the link of a peer, and waits for it for at most `wait`, as long as the caller is
    /// there.
    pub fn find(
        &self,
        peer: Peer<'_>,
        wait: Duration,
        caller: &dyn Caller,
    ) -> Result<Arc<Link>, RequestError> {
        let name = name_of(peer);
        let began = Instant::now();
        let deadline = began + wait;
        let mut host = self.host(peer);
        let mut place: Option<WaitingPlace<'_>> = None;
        loop {
            host.advance(&self.resolver, name);
            match self.peers.find(&PeerQuery { name, addresses: host.addresses() }) {
                Ok(link) => return Ok(link),
                Err(FindError::Away) => {}
                Err(FindError::Ambiguous(names)) => return Err(RequestError::Ambiguous(names)),
                Err(FindError::Stopping) => return Err(RequestError::Stopping),
            }
            if matches!(peer, Peer::Client(_)) && self.is_unknown(&host, name) {
                return Err(RequestError::UnknownPeer(name.to_owned()));
            }
            let left = match host {
                Host::LookedUp(_) => time_left(deadline.max(began + MIN_LOOKUP_TIME)),
                Host::Is(_) | Host::Unasked => time_left(deadline),
            };
            if left.is_zero() {
                return Err(match host {
                    Host::Unasked => too_many("host names are being looked up"),
                    Host::Is(_) | Host::LookedUp(_) => {
                        RequestError::Away { peer: describe(peer), waited: wait }
                    }
                });
            }
            let Some(place) = &place else {
                // Looks again: the peer may have come before this request had a place.
                place = self.peers.wait_for(name, host.may_have_addresses());
                if place.is_none() {
                    return Err(too_many("requests wait for peers that are away"));
                }
                continue;
            };
            let unasked = never();
            let looked_up = host.ended().unwrap_or(&unasked);
            select! {
                recv(place.changed()) -> _ => {}
                recv(looked_up) -> _ => {}
                default(left.min(CALLER_POLL_INTERVAL)) => {}
            }
            if caller.is_gone() {
                return Err(RequestError::CallerGone);
            }
        }
    }

    /// What the name may stand for, besides a client.
    fn host(&self, peer: Peer<'_>) -> Host {
        let Peer::Client(name) = peer else { return Host::Is(Vec::new()) };
        if self.peers.knows(name) {
            return Host::Is(Vec::new());
        }
        if let Ok(address) = name.parse::<IpAddr>() {
            return Host::Is(vec![address.to_canonical()]);
        }
        if name.eq_ignore_ascii_case(LOCALHOST) {
            return Host::Is(LOOPBACK.to_vec());
        }
        match self.host_names.iter().any(|host| name.eq_ignore_ascii_case(host)) {
            true => Host::Unasked,
            false => Host::Is(Vec::new()),
        }
    }

    /// Whether the name is neither that of a client that may come nor that of a host.
    fn is_unknown(&self, host: &Host, name: &str) -> bool {
        matches!(host, Host::Is(addresses) if addresses.is_empty())
            && !self.peers.knows(name)
            && Instant::now() >= self.unknown_until
    }
}

/// What a name stands for, besides a client.
enum Host {
    /// These addresses; without any it can only be a client's name.
    Is(Vec<IpAddr>),
    /// A host name whose lookup has not begun: too many run.
    Unasked,
    /// A host name that is being looked up.
    LookedUp(Lookup),
}

impl Host {
    /// Begins the lookup, or takes its answer.
    fn advance(&mut self, resolver: &Resolver, name: &str) {
        if matches!(self, Self::Unasked)
            && let Ok(lookup) = resolver.look_up(name)
        {
            *self = Self::LookedUp(lookup);
        }
        if let Self::LookedUp(lookup) = self
            && let Some(answer) = lookup.addresses()
        {
            let addresses = answer.unwrap_or_else(|error| {
                log::debug!("{}: not resolved: {error}", name.escape_debug());
                Vec::new()
            });
            *self = Self::Is(addresses);
        }
    }

    fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Is(addresses) => addresses,
            Self::Unasked | Self::LookedUp(_) => &[],
        }
    }

    /// Whether it has addresses, or may have some later.
    fn may_have_addresses(&self) -> bool {
        !matches!(self, Self::Is(addresses) if addresses.is_empty())
    }

    /// Disconnects when the lookup has ended.
    fn ended(&self) -> Option<&Receiver<()>> {
        match self {
            Self::LookedUp(lookup) => Some(lookup.ended()),
            Self::Is(_) | Self::Unasked => None,
        }
    }
}

fn name_of(peer: Peer<'_>) -> &str {
    match peer {
        Peer::Server => SERVER,
        Peer::Client(name) => name,
    }
}

fn describe(peer: Peer<'_>) -> String {
    match peer {
        Peer::Server => "the server".to_owned(),
        Peer::Client(name) => name.escape_debug().to_string(),
    }
}

fn too_many(what: &str) -> RequestError {
    RequestError::Full(format!("too many {what}"))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::event::pipe::Patient;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(300);

    /// Nobody is connected. `unknown` names are waited for, or not.
    fn finder(waits_for_unknown: bool, host_names: &[&str]) -> PeerFinder {
        let now = Instant::now();
        PeerFinder {
            peers: Arc::default(),
            resolver: Arc::default(),
            host_names: host_names.iter().map(|&name| name.to_owned()).collect(),
            unknown_until: if waits_for_unknown { now + LONG } else { now },
        }
    }

    fn away(name: &str, waited: Duration) -> RequestError {
        RequestError::Away { peer: name.to_owned(), waited }
    }

    impl PeerFinder {
        fn fails(&self, name: &str, wait: Duration) -> RequestError {
            let found = self.find(Peer::Client(name), wait, &Patient);
            found.map(|_| ()).expect_err("nobody is connected")
        }
    }

    #[test]
    fn an_unknown_name_is_refused_at_once_or_waited_for_soon_after_the_start() {
        let began = Instant::now();
        for name in ["web1", "no-such-name.invalid", "127.1", "localhost.", "ip6-localhost"] {
            let unknown = RequestError::UnknownPeer(name.to_owned());
            assert_eq!(finder(false, &[]).fails(name, LONG), unknown);
        }
        let soon = finder(true, &[]);
        assert_eq!(soon.fails("web1", Duration::ZERO), away("web1", Duration::ZERO));
        assert!(began.elapsed() < LONG);
        let wait = Duration::from_millis(20);
        assert_eq!(soon.fails("web1", wait), away("web1", wait));
        assert!(began.elapsed() >= wait);
        assert!(soon.resolver.is_idle(), "nothing was looked up");
    }

    #[test]
    fn an_address_and_localhost_are_waited_for() {
        let finder = finder(false, &[]);
        for name in ["127.0.0.9", "::1", "localhost", "LocalHost"] {
            assert_eq!(finder.fails(name, Duration::ZERO), away(name, Duration::ZERO));
        }
        assert!(finder.resolver.is_idle(), "nothing was looked up");
    }

    #[test]
    fn a_wait_for_an_unknown_name_ends_when_clients_have_had_the_time_to_come_back() {
        let mut finder = finder(true, &[]);
        finder.unknown_until = Instant::now() + Duration::from_millis(50);
        let began = Instant::now();
        assert_eq!(finder.fails("web1", LONG), RequestError::UnknownPeer("web1".to_owned()));
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn a_lookup_is_shared_and_ends_with_the_wait() {
        let finder = finder(false, &["slow.example"]);
        let held = finder.resolver.hold("slow.example");
        let began = Instant::now();
        // Far more than lookups at once; each would have to wait for its own.
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let away = away("Slow.example", Duration::ZERO);
                    assert_eq!(finder.fails("Slow.example", Duration::ZERO), away);
                });
            }
        });
        assert!(began.elapsed() < LONG);
        thread::scope(|scope| {
            let waits = scope.spawn(|| finder.fails("slow.example", LONG));
            held.answer(&[]);
            let unknown = RequestError::UnknownPeer("slow.example".to_owned());
            assert_eq!(waits.join().unwrap(), unknown);
        });
        assert!(began.elapsed() < LONG);
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Connects a client of this name from this machine.
    fn connect(finder: &PeerFinder, name: &str, number: u64) -> Arc<Link> {
        let (link, _) = Link::unconnected(name);
        finder.peers.add(name, &link, number, false, |_, _| ());
        link
    }

    #[test]
    fn a_request_hears_of_a_client_that_comes_while_its_name_is_looked_up() {
        let finder = finder(false, &["vm.example"]);
        let _held = finder.resolver.hold("vm.example");
        thread::scope(|scope| {
            let waits = [(); 20]
                .map(|()| scope.spawn(|| finder.find(Peer::Client("VM.example"), LONG, &Patient)));
            while finder.peers.waiting() < waits.len() {
                thread::yield_now();
            }
            let began = Instant::now();
            let link = connect(&finder, "vm.example", 1);
            for waiting in waits {
                assert!(Arc::ptr_eq(&waiting.join().unwrap().ok().unwrap(), &link));
            }
            assert!(began.elapsed() < LONG / 2);
        });
    }

    #[test]
    fn a_host_is_the_client_that_connects_from_it_unless_its_name_was_a_clients() {
        let mut finder = finder(false, &["vm.example"]);
        let vm = || Peer::Client("vm.example");
        let held = finder.resolver.hold("vm.example");
        let other = connect(&finder, "other", 1);
        thread::scope(|scope| {
            let waits = scope.spawn(|| finder.find(vm(), LONG, &Patient));
            held.answer(&[HERE]);
            assert!(Arc::ptr_eq(&waits.join().unwrap().ok().unwrap(), &other));
        });
        let another = connect(&finder, "another", 2);
        let both = vec!["another".to_owned(), "other".to_owned()];
        assert_eq!(finder.fails("vm.example", LONG), RequestError::Ambiguous(both.clone()));
        assert_eq!(finder.fails("localhost", LONG), RequestError::Ambiguous(both));
        finder.peers.remove("another", &another, |_| ());

        // A client of that name comes and goes while the name is looked up: it is waited for.
        finder.resolver = Arc::default();
        let held = finder.resolver.hold("vm.example");
        thread::scope(|scope| {
            let began = Instant::now();
            let waits = scope.spawn(|| finder.find(vm(), SHORT, &Patient).map(|_| ()));
            while finder.peers.waiting() < 1 {
                thread::yield_now();
            }
            let (link, _) = Link::unconnected("vm.example");
            link.close(crate::link::LinkEnd::Stopping);
            finder.peers.add("vm.example", &link, 3, false, |_, _| ());
            finder.peers.remove("vm.example", &link, |_| ());
            held.answer(&[HERE]);
            assert_eq!(waits.join().unwrap(), Err(away("vm.example", SHORT)));
            assert!(began.elapsed() < LONG);
        });
        finder.resolver = Arc::default();
        assert_eq!(finder.fails("vm.example", Duration::ZERO), away("vm.example", Duration::ZERO));
        assert!(finder.resolver.is_idle(), "a client's name was looked up");
    }

    struct Gone(bool);

    impl Caller for Gone {
        fn is_gone(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn a_wait_ends_with_the_node_and_with_the_caller() {
        let finder = finder(false, &["slow.example"]);
        let _held = finder.resolver.hold("slow.example");
        let gone = finder.find(Peer::Server, LONG, &Gone(true)).map(|_| ());
        assert_eq!(gone, Err(RequestError::CallerGone));
        thread::scope(|scope| {
            let waiting =
                ["localhost", "slow.example"].map(|name| scope.spawn(|| finder.fails(name, LONG)));
            while finder.peers.waiting() < waiting.len() {
                thread::yield_now();
            }
            finder.peers.stop();
            for waiting in waiting {
                assert_eq!(waiting.join().unwrap(), RequestError::Stopping);
            }
        });
        assert_eq!(finder.peers.waiting(), 0);
    }
}
