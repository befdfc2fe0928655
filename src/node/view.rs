//! What a node shows of itself: its state as JSON, whether it is ready.
//!
//! Looking holds up nobody: of each link a few numbers are read, and no lock is kept while they are
//! written down.

mod levels;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::UnixTime;
use serde_json::{Map, Value, json};

use super::catalog::Catalog;
use super::feed::{Feed, Happening};
use super::roster::{Entry, Roster};
use crate::event::Body;
use crate::identity::{Date, Keeper, PeerCertificate};
use crate::inspect::Inspect;
use crate::link::{End, Service};
use crate::meter::{Outcome, Outcomes};
use crate::metrics::Metrics;
use crate::peer::Role;

/// How often the sums of requests are noted.
const SAMPLE: Duration = Duration::from_secs(5);
/// How many of these are kept: ten minutes.
const SAMPLES: usize = 120;

/// A node, as it is shown.
pub(super) struct View {
    parts: Parts,
    /// What happens, for those who listen.
    pub feed: Arc<Feed>,
    since: SystemTime,
    started: Instant,
    stopping: AtomicBool,
    /// Sums of requests and errors, each [`SAMPLE`] after the one before. Held for moments.
    history: Mutex<History>,
}

/// What it looks at.
pub(super) struct Parts {
    pub role: Role,
    /// What answers events, in a word.
    pub handler: Option<String>,
    pub identity: Arc<Keeper>,
    pub roster: Arc<Roster>,
    pub catalog: Arc<Catalog>,
    pub service: Arc<Service>,
    pub metrics: Arc<Metrics>,
}

#[derive(Default)]
struct History {
    sums: VecDeque<(u64, u64)>,
    noted: Option<Instant>,
}

/// The time now, for programs.
pub(super) fn now() -> String {
    Date::from(UnixTime::now()).rfc3339()
}

impl View {
    /// Nothing has happened yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            feed: Arc::default(),
            since: SystemTime::now(),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            history: Mutex::default(),
        }
    }

    /// The node is ready no more, and those who listen are told nothing more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.feed.close();
    }

    /// Notes the sums of requests, when that is due. To be called about once a second.
    pub fn sample(&self, now: Instant) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.noted.is_some_and(|noted| now.duration_since(noted) < SAMPLE) {
            return;
        }
        history.noted = Some(now);
        history.sums.push_back(self.parts.metrics.totals());
        if history.sums.len() > SAMPLES + 1 {
            history.sums.pop_front();
        }
    }

    /// Requests and errors in each of the last few times.
    fn history(&self) -> Value {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = &history.sums;
        let steps = || sums.iter().zip(sums.iter().skip(1));
        let requests: Vec<u64> = steps().map(|(old, new)| new.0 - old.0).collect();
        let errors: Vec<u64> = steps().map(|(old, new)| new.1 - old.1).collect();
        json!({ "every_s": SAMPLE.as_secs(), "requests": requests, "errors": errors })
    }

    fn totals(&self) -> Value {
        let Parts { roster, metrics, .. } = &self.parts;
        let (bytes_in, bytes_out) = roster.bytes();
        let (requests, errors) = metrics.totals();
        json!({
            "requests": requests,
            "errors": errors,
            "asked": by_outcome(|outcome| metrics.asked(outcome)),
            "handled": by_outcome(|outcome| metrics.handled(outcome)),
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "links": roster.entered(),
            "connects": self.feed.count(Happening::Connect),
            "losses": self.feed.count(Happening::Loss),
            "takeovers": self.feed.count(Happening::Takeover),
            "refusals": self.feed.count(Happening::Refusal),
            "reloads": self.feed.count(Happening::Reload),
        })
    }

    fn link(&self, entry: &Entry, now: UnixTime) -> Value {
        let link = &entry.link;
        let (peer, figures) = (link.peer(), link.figures());
        let state = match () {
            () if link.is_closed() => "closing",
            () if !link.is_ready() => "coming",
            () if !link.is_open() => "leaving",
            () if !self.parts.catalog.asks_by(link) => "spare",
            () => "ready",
        };
        let mut extensions = Vec::new();
        extensions.extend(figures.terms.extended.then_some("extended"));
        extensions.extend(figures.terms.streams.then_some("streams"));
        extensions.extend(figures.terms.leaving.then_some("leaving"));
        json!({
            "name": peer.name,
            "address": peer.address.to_string(),
            "target": entry.target,
            "fingerprint": peer.fingerprint,
            "state": state,
            "since": date(figures.since),
            "last_heard_s": seconds(figures.silent),
            "last_heartbeat_s": figures.pulse.map(seconds),
            "round_trip_ms": figures.round_trip.map(|time| time.as_micros() as f64 / 1e3),
            "in_flight": figures.in_flight,
            "handling": figures.handling,
            "waiting": figures.waiting,
            "unsent": figures.unsent,
            "streams": figures.streams,
            "bytes_in": figures.bytes_in,
            "bytes_out": figures.bytes_out,
            "asked": outcomes(link.asked()),
            "handled": outcomes(link.served()),
            "reconnects": self.parts.roster.connects(&peer.name).saturating_sub(1),
            "certificate": certificate(&entry.certificate, now),
            "extensions": extensions,
        })
    }

    /// The links, by name and then by age.
    fn links(&self) -> Vec<Arc<Entry>> {
        let mut entries = self.parts.roster.entries();
        entries.sort_by_cached_key(|entry| (entry.link.peer().name.clone(), entry.link.since()));
        entries
    }

    /// The links of a client, none where this is not a server.
    fn links_of(&self, name: &str) -> Vec<Arc<Entry>> {
        let mut entries = self.links();
        let is_meant = |entry: &Arc<Entry>| entry.link.peer().name.eq_ignore_ascii_case(name);
        entries.retain(|entry| self.parts.role == Role::Server && is_meant(entry));
        entries
    }
}

impl Inspect for View {
    fn status(&self) -> Value {
        let now = UnixTime::now();
        let Parts { role, handler, identity, service, .. } = &self.parts;
        let ready = self.ready();
        let load = service.load();
        let links: Vec<Value> = self.links().iter().map(|entry| self.link(entry, now)).collect();
        json!({
            "role": role.as_str(),
            "version": env!("CARGO_PKG_VERSION"),
            "since": date(self.since),
            "uptime_s": seconds(self.started.elapsed()),
            "ready": ready.is_ok(),
            "not_ready_because": ready.err(),
            "handler": handler.as_deref(),
            "identity": {
                "name": identity.current().own().name,
                "fingerprint": identity.current().own().fingerprint,
                "certificate": certificate(identity.current().own(), now),
            },
            "handler_pool": { "threads": load.threads, "idle": load.idle, "queued": load.queued },
            "totals": self.totals(),
            "history": self.history(),
            "links": links,
        })
    }

    fn client(&self, name: &str) -> Option<Value> {
        let now = UnixTime::now();
        let entries = self.links_of(name);
        let links: Vec<Value> = entries.iter().map(|entry| self.link(entry, now)).collect();
        (!links.is_empty()).then(|| json!({ "name": entries[0].link.peer().name, "links": links }))
    }

    fn close_client(&self, name: &str) -> usize {
        let entries = self.links_of(name);
        entries.iter().for_each(|entry| entry.link.close(End::Dropped));
        entries.len()
    }

    fn metrics(&self) -> String {
        self.parts.metrics.text(&self.levels()).unwrap_or_else(|error| {
            log::error!("metrics: {error}");
            String::new()
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("this node is stopping".to_owned());
        }
        match self.parts.role {
            Role::Server => Ok(()),
            Role::Client => {
                let links = self.parts.catalog.open();
                // One of several is enough.
                let away = Err("the server is not connected".to_owned());
                links.iter().map(|link| link.is_well()).reduce(Result::or).unwrap_or(away)
            }
        }
    }

    fn events(&self) -> Option<Body> {
        self.feed.listen()
    }
}

fn outcomes(counted: &Outcomes) -> Value {
    by_outcome(|outcome| counted.get(outcome))
}

/// An object with a number for each.
fn by_outcome(count: impl Fn(Outcome) -> u64) -> Value {
    let pairs = Outcome::ALL.map(|outcome| (outcome.as_str().to_owned(), count(outcome).into()));
    Value::Object(Map::from_iter(pairs))
}

fn certificate(certificate: &PeerCertificate, now: UnixTime) -> Value {
    json!({
        "expires": certificate.expires.rfc3339(),
        "expires_s": left(certificate, now),
    })
}

/// Seconds until it ends; less than zero where it has.
fn left(certificate: &PeerCertificate, now: UnixTime) -> f64 {
    certificate.expires.to_unix().as_secs() as f64 - now.as_secs() as f64
}

fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Date::from(UnixTime::since_unix_epoch(since)).rfc3339()
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}
