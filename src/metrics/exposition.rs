//! Counters, histograms and gauges in the Prometheus text format.
//!
//! Counters are kept per node; gauges are read on each scrape, so that a disconnected peer leaves
//! no stale series.
//!
//! In scope: names, labels, the text. Not in scope: where marks come from, the values of gauges.

pub use prometheus::Error;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::metrics::meter::{Mark, Meter, RequestOutcome};

/// Upper bounds of the buckets of request times, in seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The counters of a node.
pub struct Metrics {
    registry: Registry,
    asked: [IntCounter; RequestOutcome::ALL.len()],
    handled: [IntCounter; RequestOutcome::ALL.len()],
    not_asked: IntCounter,
    request_seconds: Histogram,
    handler_seconds: Histogram,
    dials: IntCounter,
    losses: IntCounter,
    heartbeats_missed: IntCounter,
}

/// A gauge, or a counter that is kept elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Its name, without the prefix `restpipe_`.
    pub name: &'static str,
    /// A short description.
    pub help: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its values, each with one label value per label. Of two with the same labels the last one is
    /// used.
    pub values: Vec<(Vec<String>, f64)>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new_custom(Some("restpipe".to_owned()), None)?;
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let by_outcome = |name, help| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["outcome"])?;
            registry.register(Box::new(counters.clone()))?;
            // Looked up once, so that counting is only an addition.
            Ok::<_, Error>(
                RequestOutcome::ALL.map(|outcome| counters.with_label_values(&[outcome.as_str()])),
            )
        };
        let histogram = |name, help| {
            let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone())).map(|()| histogram)
        };
        Ok(Self {
            asked: by_outcome("requests_total", "Requests to peers, by what became of them.")?,
            handled: by_outcome("handled_total", "Requests of peers, by what they were answered.")?,
            not_asked: counter(
                "requests_not_asked_total",
                "Requests to peers that were away for too long, or unknown.",
            )?,
            request_seconds: histogram(
                "request_seconds",
                "Time from a request to a peer to the beginning of its reply.",
            )?,
            handler_seconds: histogram("handler_seconds", "Time that handlers take.")?,
            dials: counter("dials_total", "Attempts of a client to connect.")?,
            losses: counter("losses_total", "Connections that a client has lost.")?,
            heartbeats_missed: counter(
                "heartbeats_missed_total",
                "Connections that a client gave up because the server was silent.",
            )?,
            registry,
        })
    }

    /// Requests in both directions so far, and how many of them failed.
    pub fn totals(&self) -> (u64, u64) {
        let not_asked = self.not_asked.get();
        RequestOutcome::ALL.iter().fold((not_asked, not_asked), |(requests, errors), outcome| {
            let count = self.asked(*outcome) + self.handled(*outcome);
            (requests + count, if outcome.is_error() { errors + count } else { errors })
        })
    }

    /// The number of requests to peers with this outcome.
    pub fn asked(&self, outcome: RequestOutcome) -> u64 {
        self.asked[outcome as usize].get()
    }

    /// The number of requests of peers with this outcome.
    pub fn handled(&self, outcome: RequestOutcome) -> u64 {
        self.handled[outcome as usize].get()
    }

    /// All metrics as text, with these gauges.
    pub fn text(&self, levels: &[Level]) -> Result<String, Error> {
        let mut families = self.registry.gather();
        // The format has no families without values.
        for level in levels.iter().filter(|level| !level.values.is_empty()) {
            families.extend(level.collect()?);
        }
        TextEncoder::new().encode_to_string(&families)
    }
}

impl Meter for Metrics {
    fn mark(&self, mark: Mark<'_>) {
        match mark {
            Mark::Replied { outcome, took } => {
                self.asked[outcome as usize].inc();
                self.request_seconds.observe(took.as_secs_f64());
            }
            Mark::Unanswered { outcome } => self.asked[outcome as usize].inc(),
            Mark::NotAsked => self.not_asked.inc(),
            Mark::Handled { code, took, .. } => {
                self.handled[RequestOutcome::of_code(code) as usize].inc();
                self.handler_seconds.observe(took.as_secs_f64());
            }
            Mark::TurnedAway => self.handled[RequestOutcome::Exception as usize].inc(),
            Mark::Dialling => self.dials.inc(),
            Mark::Lost => self.losses.inc(),
            Mark::HeartbeatMissed => self.heartbeats_missed.inc(),
            Mark::Connected { .. }
            | Mark::HeartbeatAnswered { .. }
            | Mark::Asking
            | Mark::Asked => {}
        }
    }
}

impl Level {
    fn collect(&self) -> Result<Vec<MetricFamily>, Error> {
        let options = Opts::new(self.name, self.help).namespace("restpipe");
        if self.is_counter {
            let counters = IntCounterVec::new(options, self.labels)?;
            for (labels, value) in &self.values {
                // Counted as integers; beyond 2^53 the value is rounded.
                counters.get_metric_with_label_values(labels)?.inc_by(*value as u64);
            }
            return Ok(counters.collect());
        }
        let gauges = GaugeVec::new(options, self.labels)?;
        for (labels, value) in &self.values {
            gauges.get_metric_with_label_values(labels)?.set(*value);
        }
        Ok(gauges.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::meter::HandledMethod;

    #[test]
    fn marks_become_lines() {
        let metrics = Metrics::new().unwrap();
        let took = Duration::from_millis(3);
        metrics.mark(Mark::Replied { outcome: RequestOutcome::Fine, took });
        metrics.mark(Mark::Unanswered { outcome: RequestOutcome::Lost });
        metrics.mark(Mark::Handled { method: HandledMethod::Known("get_time"), code: 255, took });
        metrics.mark(Mark::NotAsked);
        let text = metrics.text(&[]).unwrap();
        for line in [
            "restpipe_requests_total{outcome=\"fine\"} 1",
            "restpipe_requests_total{outcome=\"lost\"} 1",
            "restpipe_requests_total{outcome=\"no_reply\"} 0",
            "restpipe_handled_total{outcome=\"unhandled\"} 1",
            "restpipe_requests_not_asked_total 1",
            "restpipe_request_seconds_bucket{le=\"0.0025\"} 0",
            "restpipe_request_seconds_bucket{le=\"0.005\"} 1",
            "restpipe_request_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert_eq!(metrics.totals(), (4, 2));
    }

    #[test]
    fn no_label_breaks_a_line() {
        let metrics = Metrics::new().unwrap();
        let level = Level {
            name: "link_streams",
            help: "Streams.",
            is_counter: false,
            labels: &["peer", "target"],
            values: vec![(vec!["a\"} 9\nb\\".to_owned(), "c".to_owned()], 1.0)],
        };
        let text = metrics.text(&[level]).unwrap();
        let line = r#"restpipe_link_streams{peer="a\"} 9\nb\\",target="c"} 1"#;
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}
