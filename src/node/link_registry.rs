//! Every live link of a node, in any state, with its peer's credentials.
//!
//! The peer table holds only the links that take requests; the registry also holds those that are
//! not ready yet and those that finish what is in flight.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::history::History;
use crate::config::ServerTarget;
use crate::identity::{CertificateSummary, Identity, PeerCertificate, earliest_end};
use crate::link::{Link, LinkEnd};

/// Maximum names whose connections are counted.
const MAX_NAMES: usize = 65_536;

/// How often a link's request totals are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// Number of samples kept: five minutes.
const MAX_SAMPLES: usize = 30;

/// The links of a node.
#[derive(Default)]
pub(super) struct LinkRegistry {
    /// Guards the links, by a number of their own. Never held while a link is judged or closed.
    pub(super) entries: Mutex<HashMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    /// How often each name has connected, in lower case. A client counts servers by the dialled
    /// target, since several may share a name.
    connects: Mutex<HashMap<String, u64>>,
    /// Bytes received and sent on links that have ended.
    gone: [AtomicU64; 2],
}

/// One link.
pub(super) struct Entry {
    pub link: Arc<Link>,
    /// The peer's own certificate.
    pub certificate: PeerCertificate,
    /// The server that a client has dialled, as `HOST:PORT`, and the proxy.
    pub target: Option<String>,
    /// Requests and errors of the last minutes.
    pub history: Mutex<History>,
    /// The presented certificate chain, end-entity certificate first.
    chain: Vec<CertificateDer<'static>>,
    /// The earliest expiry in the chain.
    ends: Option<UnixTime>,
    /// The number of the identity that last judged the chain.
    judged_by: AtomicU64,
}

/// Keeps a link in the registry; dropping it removes the link.
pub(super) struct LinkRegistration {
    registry: Arc<LinkRegistry>,
    key: u64,
}

impl Entry {
    /// A link whose handshake used the identity with this number.
    pub fn new(
        link: Arc<Link>,
        certificate: PeerCertificate,
        chain: Vec<CertificateDer<'static>>,
        judged_by: u64,
    ) -> Self {
        let ends = earliest_end(&chain);
        let judged_by = AtomicU64::new(judged_by);
        let history = Mutex::new(History::new(SAMPLE_INTERVAL, MAX_SAMPLES, Instant::now()));
        Self { link, certificate, target: None, history, chain, ends, judged_by }
    }

    /// Adds the server that was dialled.
    pub fn to(self, target: &ServerTarget) -> Self {
        Self { target: Some(target.to_string()), ..self }
    }

    /// The key under which reconnects are counted.
    fn counted_as(&self) -> String {
        self.target.as_deref().unwrap_or(&self.link.peer().name).to_ascii_lowercase()
    }

    fn is_to_be_judged(&self, number: u64, now: UnixTime) -> bool {
        let judged_by = self.judged_by.swap(number, Ordering::Relaxed);
        judged_by != number || self.ends.is_none_or(|ends| ends.as_secs() < now.as_secs())
    }
}

impl LinkRegistry {
    /// Adds a link.
    pub fn register(self: &Arc<Self>, entry: Entry) -> LinkRegistration {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.note_connect(entry.counted_as());
        self.entries.lock().insert(key, Arc::new(entry));
        LinkRegistration { registry: Arc::clone(self), key }
    }

    /// Every link.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().values().cloned().collect()
    }

    /// The number of links registered so far.
    pub fn registered(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// How often the peer of this link has reconnected, as far as recorded.
    pub fn reconnects(&self, entry: &Entry) -> u64 {
        let connects = self.connects.lock();
        connects.get(&entry.counted_as()).map_or(0, |connects| connects.saturating_sub(1))
    }

    /// Bytes received and sent on all links so far.
    pub fn bytes(&self) -> (u64, u64) {
        // Held throughout: a link that ended meanwhile would be counted twice or not at all.
        let entries = self.entries.lock();
        let [bytes_in, bytes_out] = &self.gone;
        let gone = (bytes_in.load(Ordering::Relaxed), bytes_out.load(Ordering::Relaxed));
        entries.values().fold(gone, |(bytes_in, bytes_out), entry| {
            let (more_in, more_out) = entry.link.bytes();
            (bytes_in + more_in, bytes_out + more_out)
        })
    }

    fn note_connect(&self, name: String) {
        let mut connects = self.connects.lock();
        if connects.len() < MAX_NAMES || connects.contains_key(&name) {
            *connects.entry(name).or_default() += 1;
        }
    }

    /// Closes every link whose peer `identity`, with this number, would refuse now.
    pub fn judge(&self, number: u64, identity: &Identity, now: UnixTime) {
        for entry in self.entries() {
            if entry.link.is_closed() || !entry.is_to_be_judged(number, now) {
                continue;
            }
            if let (Err(fault), Some(leaf)) =
                (identity.judge(&entry.chain, now), entry.chain.first())
            {
                entry.link.close(LinkEnd::CertificateRejected(
                    CertificateSummary::new(leaf, Some(fault)).to_string(),
                ));
            }
        }
    }
}

impl Drop for LinkRegistration {
    fn drop(&mut self) {
        let mut entries = self.registry.entries.lock();
        if let Some(entry) = entries.remove(&self.key) {
            let (bytes_in, bytes_out) = entry.link.bytes();
            self.registry.gone[0].fetch_add(bytes_in, Ordering::Relaxed);
            self.registry.gone[1].fetch_add(bytes_out, Ordering::Relaxed);
        }
    }
}
