//! A node's gauges for Prometheus: read on request, not counted.

use std::time::SystemTime;

use rustls::pki_types::UnixTime;

use super::super::feed::Happening;
use super::super::link_registry::Entry;
use super::{View, left};
use crate::event::inspect::Inspect;
use crate::event::peer::Role;
use crate::link::Traffic;
use crate::metrics::exposition::Level;
use crate::node::core::Core;

impl View {
    /// The current gauges.
    pub(super) fn levels(&self) -> Vec<Level> {
        let Core { role, identity, registry, peers, service, .. } = &*self.core;
        let now = UnixTime::now();
        let (entries, load) = (self.links(), service.load());
        let (bytes_in, bytes_out) = registry.bytes();
        let level = |name, help, value: f64| Level {
            name,
            help,
            is_counter: false,
            labels: &[],
            values: vec![(Vec::new(), value)],
        };
        let counter =
            |name, help, value: u64| Level { is_counter: true, ..level(name, help, value as f64) };
        // A client's servers may share one name, and a server's clients may connect from anywhere.
        let labels: &[&str] = match role {
            Role::Server => &["peer"],
            Role::Client => &["peer", "target"],
        };
        let labels_of = |entry: &Entry| -> Vec<String> {
            let target = entry.target.clone().unwrap_or_default();
            [entry.link.peer().name.clone(), target].into_iter().take(labels.len()).collect()
        };
        // If a peer has several links, the newest is the last.
        let by_peer = |name, help, value: &dyn Fn(&Entry) -> Option<f64>| Level {
            name,
            help,
            is_counter: false,
            labels,
            values: entries
                .iter()
                .filter_map(|entry| Some((labels_of(entry), value(entry)?)))
                .collect(),
        };
        let traffic: Vec<Traffic> =
            entries.iter().map(|entry| entry.link.figures().traffic).collect();
        let sum = |value: &dyn Fn(&Traffic) -> usize| -> f64 {
            traffic.iter().map(|traffic| value(traffic) as f64).sum()
        };
        let own = identity.current().own().clone();
        vec![
            Level {
                labels: &["version"],
                values: vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)],
                ..level("build_info", "The version of this program.", 1.0)
            },
            level(
                "start_time_seconds",
                "When this node was started, in seconds since 1970.",
                self.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64()),
            ),
            level("ready", "Whether /readyz says so.", f64::from(u8::from(self.ready().is_ok()))),
            Level {
                labels: &["role"],
                values: vec![(vec![role.as_str().to_owned()], entries.len() as f64)],
                ..level("links", "Links that stand, or are being made or closed.", 0.0)
            },
            counter("links_total", "Links there have been.", registry.registered()),
            counter("bytes_received_total", "Bytes that came over all links, as TLS.", bytes_in),
            counter("bytes_sent_total", "Bytes that went over all links, as TLS.", bytes_out),
            counter(
                "connects_total",
                "Links that stood.",
                self.core.feed.count(Happening::Connect),
            ),
            counter(
                "disconnects_total",
                "Those of them that have ended.",
                self.core.feed.count(Happening::Loss),
            ),
            counter(
                "takeovers_total",
                "Links that took the place of an older one of the same name.",
                self.core.feed.count(Happening::Takeover),
            ),
            counter(
                "refusals_total",
                "Connections that came to nothing.",
                self.core.feed.count(Happening::Refusal),
            ),
            level(
                "in_flight",
                "Requests to peers that wait for their replies.",
                sum(&|traffic| traffic.in_flight),
            ),
            level(
                "handling",
                "Requests of peers that are being handled, or wait for it.",
                sum(&|traffic| traffic.handling),
            ),
            level(
                "unsent_messages",
                "Messages that wait to be written.",
                sum(&|traffic| traffic.unsent),
            ),
            level(
                "streams",
                "Bodies in pieces and connections that are carried.",
                sum(&|traffic| traffic.streams),
            ),
            level(
                "waiting_for_peers",
                "Requests that wait for peers that are away.",
                peers.waiting() as f64,
            ),
            level("handler_threads", "Threads that run handlers.", load.threads as f64),
            level("handler_threads_idle", "Those of them without work.", load.idle as f64),
            level("handler_queue", "Requests that wait for a thread.", load.queued as f64),
            level(
                "certificate_expiry_seconds",
                "Time until this node's own certificate ends.",
                left(&own, now),
            ),
            by_peer(
                "peer_certificate_expiry_seconds",
                "Time until a peer's certificate ends.",
                &|entry| Some(left(&entry.certificate, now)),
            ),
            by_peer("peer_reconnects", "How often a peer has connected again.", &|entry| {
                Some(registry.reconnects(entry) as f64)
            }),
            by_peer(
                "peer_round_trip_seconds",
                "Time that the last heartbeat took to be answered.",
                &|entry| entry.link.figures().round_trip.map(|time| time.as_secs_f64()),
            ),
        ]
    }
}
