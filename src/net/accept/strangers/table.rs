//! The table of strangers, and which one a newcomer displaces. Pure: no socket, no clock.
//!
//! While there is room every connection is admitted, so that two thousand clients behind one
//! address can all reconnect at once. Without room, the address with the most strangers loses its
//! oldest one, silent ones first, to a newcomer from an address that has fewer: no single address
//! can lock out an honest newcomer. Among equals only time decides, see [`SPARED_SILENT`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use socket2::Socket;

/// How long a silent stranger is safe from newcomers whose address has no fewer strangers. An
/// honest client sends at once; a second allows for a lost segment. It also bounds the cost of one
/// address that reconnects repeatedly: all slots once a second, a thread each.
const SPARED_SILENT: Duration = Duration::from_secs(1);
/// The same for one that has sent data. A handshake over a slow network takes two of these seconds;
/// on a loaded server more, where displacing nearly finished ones would increase the load.
const SPARED_HEARD: Duration = Duration::from_secs(4);

/// The origin of a stranger, at the granularity of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SourceAddress {
    /// An IPv4 address, also an IPv4-mapped one.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: one host may use all addresses that share them (RFC
    /// 4291, section 2.5.4).
    V6(u64),
    /// This machine, over a Unix socket.
    Local,
}

impl SourceAddress {
    /// The origin of a socket's peer.
    pub fn of(socket: &Socket) -> Self {
        let address = socket.peer_addr().ok().and_then(|address| address.as_socket());
        address.map_or(Self::Local, |address| address.ip().into())
    }
}

impl From<IpAddr> for SourceAddress {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The strangers, each with a handle to close it.
pub(super) struct Table<H> {
    most: usize,
    count: usize,
    last: u64,
    origins: HashMap<SourceAddress, Crowd<H>>,
}

/// The strangers of one origin, by number and so by age.
struct Crowd<H> {
    silent: BTreeMap<u64, Entry<H>>,
    heard: BTreeMap<u64, Entry<H>>,
}

struct Entry<H> {
    since: Instant,
    handle: H,
}

/// An admitted stranger.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admission<H> {
    /// Its number, never reused.
    pub number: u64,
    /// The stranger it displaced.
    pub displaced: Option<H>,
}

impl<H> Table<H> {
    /// For at most `most` at once.
    pub fn new(most: usize) -> Self {
        Self { most, count: 0, last: 0, origins: HashMap::new() }
    }

    /// Admits a newcomer; `None` if there is no slot.
    pub fn enter(
        &mut self,
        origin: SourceAddress,
        handle: H,
        now: Instant,
    ) -> Option<Admission<H>> {
        let displaced =
            if self.count < self.most { None } else { Some(self.displace(origin, now)?) };
        self.last += 1;
        self.count += 1;
        let crowd = self.origins.entry(origin).or_default();
        crowd.silent.insert(self.last, Entry { since: now, handle });
        Some(Admission { number: self.last, displaced })
    }

    /// Records that it sent data.
    pub fn hear(&mut self, origin: SourceAddress, number: u64) {
        if let Some(crowd) = self.origins.get_mut(&origin)
            && let Some(entry) = crowd.silent.remove(&number)
        {
            crowd.heard.insert(number, entry);
        }
    }

    /// Whether it is still in the table.
    pub fn has(&self, origin: SourceAddress, number: u64) -> bool {
        self.origins.get(&origin).is_some_and(|crowd| {
            crowd.silent.contains_key(&number) || crowd.heard.contains_key(&number)
        })
    }

    /// Removes one that has authenticated or closed. `None` if it was displaced.
    pub fn leave(&mut self, origin: SourceAddress, number: u64) -> Option<H> {
        let crowd = self.origins.get_mut(&origin)?;
        let entry = crowd.silent.remove(&number).or_else(|| crowd.heard.remove(&number))?;
        self.count -= 1;
        if crowd.len() == 0 {
            self.origins.remove(&origin);
        }
        Some(entry.handle)
    }

    /// Removes the one that a newcomer from this origin displaces.
    fn displace(&mut self, newcomer: SourceAddress, now: Instant) -> Option<H> {
        let own = self.origins.get(&newcomer).map_or(0, Crowd::len);
        // Among equals the one with the oldest silent stranger.
        let heaviest =
            |(_, crowd): &(&SourceAddress, &Crowd<H>)| (crowd.len(), Reverse(crowd.first()));
        let (&origin, crowd) = self.origins.iter().max_by_key(heaviest)?;
        let is_old =
            |entry: &Entry<H>, spared| now.saturating_duration_since(entry.since) >= spared;
        let silent = crowd.silent.first_key_value();
        let silent = silent.filter(|(_, entry)| crowd.len() > own || is_old(entry, SPARED_SILENT));
        // Displacing it would only swap the addresses' counts, and it has sent data.
        let heard = crowd.heard.first_key_value();
        let heard = heard.filter(|(_, entry)| crowd.len() > own + 1 || is_old(entry, SPARED_HEARD));
        let (&number, _) = silent.or(heard)?;
        self.leave(origin, number)
    }
}

impl<H> Default for Crowd<H> {
    fn default() -> Self {
        Self { silent: BTreeMap::new(), heard: BTreeMap::new() }
    }
}

impl<H> Crowd<H> {
    fn len(&self) -> usize {
        self.silent.len() + self.heard.len()
    }

    /// The first to be displaced: the oldest silent one, else the oldest.
    fn first(&self) -> (bool, u64) {
        let first = |map: &BTreeMap<u64, Entry<H>>| map.keys().next().copied();
        match first(&self.silent) {
            Some(number) => (false, number),
            None => (true, first(&self.heard).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> SourceAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    /// A table whose handles are names, and a clock.
    struct Scene {
        table: Table<String>,
        now: Instant,
    }

    impl Scene {
        fn new(most: usize) -> Self {
            Self { table: Table::new(most), now: Instant::now() }
        }

        fn after(&mut self, time: Duration) {
            self.now += time;
        }

        /// Its number and the one it displaced; `None` if it was refused.
        fn enter(&mut self, origin: &str, name: &str) -> Option<(u64, Option<String>)> {
            let entered = self.table.enter(from(origin), name.to_owned(), self.now)?;
            Some((entered.number, entered.displaced))
        }

        fn fill(&mut self, origin: &str) -> Vec<u64> {
            (self.table.count..self.table.most)
                .map(|at| self.enter(origin, &format!("{origin} {at}")).unwrap().0)
                .collect()
        }
    }

    #[test]
    fn addresses_are_told_apart_as_far_as_their_holder_cannot_choose_them() {
        assert_eq!(from("::ffff:192.0.2.1"), from("192.0.2.1"));
        assert_eq!(from("2001:db8::1"), from("2001:db8::ffff:1:2:3"));
        assert_ne!(from("2001:db8::1"), from("2001:db8:0:1::1"));
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
    }

    #[test]
    fn one_address_may_have_all_places_until_another_comes() {
        let mut scene = Scene::new(4);
        scene.fill("192.0.2.1");
        assert_eq!(scene.enter("192.0.2.1", "one more"), None);
        for at in 0..2 {
            let left = Some(format!("192.0.2.1 {at}"));
            assert_eq!(scene.enter("192.0.2.2", "newcomer").unwrap().1, left);
        }
        // Two addresses have two each now.
        assert_eq!(scene.enter("192.0.2.2", "newcomer"), None);
        assert_eq!(scene.enter("192.0.2.1", "one more"), None);
        assert_eq!(scene.enter("192.0.2.3", "third").unwrap().1.unwrap(), "192.0.2.1 2");
        assert_eq!(scene.table.count, 4);
    }

    #[test]
    fn the_silent_leave_first_and_then_those_that_were_heard() {
        let mut scene = Scene::new(3);
        let numbers = scene.fill("192.0.2.1");
        scene.table.hear(from("192.0.2.1"), numbers[0]);
        let displaced =
            |scene: &mut Scene, origin| scene.enter(origin, origin).map(|e| e.1.unwrap());
        assert_eq!(displaced(&mut scene, "192.0.2.2").unwrap(), "192.0.2.1 1");
        scene.table.hear(from("192.0.2.1"), numbers[2]);
        // Two against none: the older one, although it has sent data.
        assert_eq!(displaced(&mut scene, "192.0.2.3").unwrap(), "192.0.2.1 0");
        // One each. The oldest silent one is displaced; one that has sent data stays.
        assert_eq!(displaced(&mut scene, "192.0.2.4").unwrap(), "192.0.2.2");
        assert_eq!(displaced(&mut scene, "192.0.2.5").unwrap(), "192.0.2.3");
        assert!(scene.table.has(from("192.0.2.1"), numbers[2]));
    }

    #[test]
    fn among_equals_time_decides() {
        let mut scene = Scene::new(3);
        let numbers = scene.fill("192.0.2.1");
        let enter = |scene: &mut Scene| scene.enter("192.0.2.1", "newcomer");
        scene.after(SPARED_SILENT - Duration::from_millis(1));
        assert_eq!(enter(&mut scene), None);
        scene.table.hear(from("192.0.2.1"), numbers[0]);
        scene.after(Duration::from_millis(1));
        for at in [1, 2] {
            assert_eq!(enter(&mut scene).unwrap().1.unwrap(), format!("192.0.2.1 {at}"));
        }
        assert_eq!(enter(&mut scene), None, "the others are new, and the first was heard");
        scene.table.hear(from("192.0.2.1"), 4);
        scene.table.hear(from("192.0.2.1"), 5);
        scene.after(SPARED_HEARD - SPARED_SILENT);
        assert_eq!(enter(&mut scene).unwrap().1.unwrap(), "192.0.2.1 0");
        assert_eq!(enter(&mut scene), None);
    }

    #[test]
    fn a_flood_from_one_address_costs_no_newcomer_from_another() {
        let mut scene = Scene::new(512);
        for round in 0..100 {
            for _ in 0..1000 {
                let _ = scene.enter("192.0.2.1", "flood");
                scene.after(Duration::from_micros(100));
            }
            let (number, displaced) = scene.enter("192.0.2.2", "honest").unwrap();
            assert_eq!(displaced.unwrap(), "flood", "round {round}");
            for _ in 0..10_000 {
                let _ = scene.enter("192.0.2.1", "flood");
            }
            assert_eq!(scene.table.leave(from("192.0.2.2"), number).unwrap(), "honest");
            assert!(scene.table.count < 512);
        }
    }

    #[test]
    fn whoever_was_displaced_or_has_left_is_here_no_longer() {
        let mut scene = Scene::new(1);
        let (first, _) = scene.enter("192.0.2.1", "first").unwrap();
        scene.enter("192.0.2.2", "second").unwrap();
        assert!(!scene.table.has(from("192.0.2.1"), first));
        assert_eq!(scene.table.leave(from("192.0.2.1"), first), None);
        assert_eq!(scene.table.count, 1);
        assert_eq!(scene.table.leave(from("192.0.2.2"), 2).unwrap(), "second");
        assert_eq!((scene.table.count, scene.table.origins.len()), (0, 0));
    }
}
