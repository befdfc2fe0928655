//! What a node shows of itself: its state as JSON, and whether it is ready.
//!
//! Reading the state blocks nobody: a few numbers are read from each link, and no lock is held
//! while they are written out.

mod levels;
mod shown;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::UnixTime;

use shown::{
    ByOutcome, CertificateShown, ClientShown, IdentityShown, LinkShown, NodeShown, PoolShown,
    Totals,
};

use super::core::Core;
use super::feed::Happening;
use super::history::History;
use super::link_registry::Entry;
use crate::event::Body;
use crate::event::inspect::Inspect;
use crate::event::peer::Role;
use crate::identity::{Date, PeerCertificate};
use crate::link::{Link, LinkEnd};
use crate::metrics::meter::RequestOutcome;

/// How often the node's request totals are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// Number of samples kept: ten minutes.
const MAX_SAMPLES: usize = 120;

/// The visible state of a node.
pub(super) struct View {
    core: Arc<Core>,
    /// The handler's name.
    handler: Option<String>,
    since: SystemTime,
    started: Instant,
    stopping: AtomicBool,
    /// Whether the pipe port can accept connections; unset on a client.
    accepts: OnceLock<Arc<AtomicBool>>,
    /// Requests and errors of the last minutes.
    history: Mutex<History>,
}

impl View {
    /// The view of a new node.
    pub fn new(core: Arc<Core>, handler: Option<String>) -> Self {
        Self {
            core,
            handler,
            since: SystemTime::now(),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            accepts: OnceLock::new(),
            history: Mutex::new(History::new(SAMPLE_INTERVAL, MAX_SAMPLES, Instant::now())),
        }
    }

    /// Sets the flag in which the acceptor of the pipe port reports whether it can accept.
    pub fn watch(&self, accepts: Arc<AtomicBool>) {
        // Set once, when the port is opened.
        let _ = self.accepts.set(accepts);
    }

    /// Marks the node as not ready, and ends its event streams.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.core.feed.close();
    }

    /// Samples the request totals when due. To be called about once a second.
    pub fn sample(&self, now: Instant) {
        self.history.lock().note(now, || self.core.metrics.totals());
        for entry in self.core.registry.entries() {
            entry.history.lock().note(now, || sums(&entry.link));
        }
    }

    fn totals(&self) -> Totals {
        let Core { registry, metrics, .. } = &*self.core;
        let (bytes_in, bytes_out) = registry.bytes();
        let (requests, errors) = metrics.totals();
        Totals {
            requests,
            errors,
            asked: ByOutcome::new(|outcome| metrics.asked(outcome)),
            handled: ByOutcome::new(|outcome| metrics.handled(outcome)),
            bytes_in,
            bytes_out,
            links: registry.registered(),
            connects: self.core.feed.count(Happening::Connect),
            losses: self.core.feed.count(Happening::Loss),
            takeovers: self.core.feed.count(Happening::Takeover),
            refusals: self.core.feed.count(Happening::Refusal),
            reloads: self.core.feed.count(Happening::Reload),
        }
    }

    fn link<'a>(&self, entry: &'a Entry, now: UnixTime) -> LinkShown<'a> {
        let link = &entry.link;
        let (peer, figures) = (link.peer(), link.figures());
        let state = match () {
            () if link.is_closed() => "closing",
            () if !link.is_ready() => "coming",
            () if !link.is_open() => "leaving",
            () if !self.core.peers.asks_by(link) => "spare",
            () => "ready",
        };
        let mut extensions = Vec::new();
        extensions.extend(figures.capabilities.extended.then_some("extended"));
        extensions.extend(figures.capabilities.streams.then_some("streams"));
        extensions.extend(figures.capabilities.drain.then_some("leaving"));
        LinkShown {
            name: &peer.name,
            address: peer.address,
            target: entry.target.as_deref(),
            fingerprint: &peer.fingerprint,
            state,
            since: date(figures.since),
            last_heard_s: seconds(figures.silent),
            last_heartbeat_s: figures.last_heartbeat.map(seconds),
            round_trip_ms: figures.round_trip.map(|time| time.as_micros() as f64 / 1e3),
            traffic: figures.traffic,
            asked: ByOutcome::new(|outcome| link.asked().get(outcome)),
            handled: ByOutcome::new(|outcome| link.served().get(outcome)),
            reconnects: self.core.registry.reconnects(entry),
            history: entry.history.lock().steps(),
            certificate: certificate(&entry.certificate, now),
            extensions,
        }
    }

    /// The links, ordered by name, then age.
    fn links(&self) -> Vec<Arc<Entry>> {
        let mut entries = self.core.registry.entries();
        entries.sort_by_cached_key(|entry| (entry.link.peer().name.clone(), entry.link.since()));
        entries
    }

    /// The links of a client; empty if this is not a server.
    fn links_of(&self, name: &str) -> Vec<Arc<Entry>> {
        let mut entries = self.links();
        let is_meant = |entry: &Arc<Entry>| entry.link.peer().name.eq_ignore_ascii_case(name);
        entries.retain(|entry| self.core.role == Role::Server && is_meant(entry));
        entries
    }
}

impl Inspect for View {
    fn status(&self) -> Body {
        let now = UnixTime::now();
        let Core { role, identity, peers, service, .. } = &*self.core;
        let (ready, load, identity) = (self.ready(), service.load(), identity.current());
        let entries = self.links();
        Body::json(&NodeShown {
            role: role.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            since: date(self.since),
            uptime_s: seconds(self.started.elapsed()),
            ready: ready.is_ok(),
            not_ready_because: ready.err(),
            handler: self.handler.as_deref(),
            identity: IdentityShown {
                name: &identity.own().name,
                fingerprint: &identity.own().fingerprint,
                certificate: certificate(identity.own(), now),
            },
            handler_pool: PoolShown { threads: load.threads, idle: load.idle, queued: load.queued },
            waiting_for_peers: peers.waiting(),
            totals: self.totals(),
            history: self.history.lock().steps(),
            links: entries.iter().map(|entry| self.link(entry, now)).collect(),
        })
    }

    fn client(&self, name: &str) -> Option<Body> {
        let now = UnixTime::now();
        let entries = self.links_of(name);
        let name = &entries.first()?.link.peer().name;
        let links = entries.iter().map(|entry| self.link(entry, now)).collect();
        Some(Body::json(&ClientShown { name, links }))
    }

    fn close_client(&self, name: &str) -> usize {
        let entries = self.links_of(name);
        entries.iter().for_each(|entry| entry.link.close(LinkEnd::Dropped));
        entries.len()
    }

    fn metrics(&self) -> String {
        self.core.metrics.text(&self.levels()).unwrap_or_else(|error| {
            log::error!("metrics: {error}");
            String::new()
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("this node is stopping".to_owned());
        }
        match self.core.role {
            Role::Server if self.accepts.get().is_none_or(|may| may.load(Ordering::Relaxed)) => {
                Ok(())
            }
            Role::Server => {
                Err("connections of clients cannot be accepted; the log says why".to_owned())
            }
            Role::Client => {
                let links = self.core.peers.open();
                // One healthy link of several is enough.
                links.iter().map(|link| link.is_well()).reduce(Result::or).unwrap_or_else(|| {
                    let why =
                        self.core.feed.trouble().map_or(String::new(), |why| format!(": {why}"));
                    Err(format!("the server is not connected{why}"))
                })
            }
        }
    }

    fn events(&self) -> Option<Body> {
        self.core.feed.listen()
    }
}

/// Requests in both directions, and how many of them failed.
fn sums(link: &Link) -> (u64, u64) {
    let (mut requests, mut errors) = (0, 0);
    for outcome in RequestOutcome::ALL {
        let count = link.asked().get(outcome) + link.served().get(outcome);
        requests += count;
        errors += if outcome.is_error() { count } else { 0 };
    }
    (requests, errors)
}

fn certificate(certificate: &PeerCertificate, now: UnixTime) -> CertificateShown {
    CertificateShown { expires: certificate.expires.rfc3339(), expires_s: left(certificate, now) }
}

/// Seconds until expiry; negative after it.
fn left(certificate: &PeerCertificate, now: UnixTime) -> f64 {
    certificate.expires.to_unix().as_secs() as f64 - now.as_secs() as f64
}

fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Date::from(UnixTime::since_unix_epoch(since)).rfc3339()
}

/// Seconds, rounded to the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}
