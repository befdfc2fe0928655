//! The objects in `/status`, with their fields in output order.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::link::Traffic;
use crate::metrics::meter::RequestOutcome;
use crate::node::history::Steps;

/// A node and its links.
#[derive(Serialize)]
pub(super) struct NodeShown<'a> {
    pub role: &'a str,
    pub version: &'a str,
    pub since: String,
    pub uptime_s: f64,
    pub ready: bool,
    pub not_ready_because: Option<String>,
    pub handler: Option<&'a str>,
    pub identity: IdentityShown<'a>,
    pub handler_pool: PoolShown,
    pub waiting_for_peers: usize,
    pub totals: Totals,
    pub history: Steps,
    pub links: Vec<LinkShown<'a>>,
}

/// The links of one client.
#[derive(Serialize)]
pub(super) struct ClientShown<'a> {
    pub name: &'a str,
    pub links: Vec<LinkShown<'a>>,
}

/// This node's own certificate.
#[derive(Serialize)]
pub(super) struct IdentityShown<'a> {
    pub name: &'a str,
    pub fingerprint: &'a str,
    pub certificate: CertificateShown,
}

/// The validity of a certificate.
#[derive(Serialize)]
pub(super) struct CertificateShown {
    pub expires: String,
    pub expires_s: f64,
}

/// The handler threads.
#[derive(Serialize)]
pub(super) struct PoolShown {
    pub threads: usize,
    pub idle: usize,
    pub queued: usize,
}

/// Totals since the node was started.
#[derive(Serialize)]
pub(super) struct Totals {
    pub requests: u64,
    pub errors: u64,
    pub asked: ByOutcome,
    pub handled: ByOutcome,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub links: u64,
    pub connects: u64,
    pub losses: u64,
    pub takeovers: u64,
    pub refusals: u64,
    pub reloads: u64,
}

/// One link.
#[derive(Serialize)]
pub(super) struct LinkShown<'a> {
    pub name: &'a str,
    pub address: IpAddr,
    pub target: Option<&'a str>,
    pub fingerprint: &'a str,
    pub state: &'a str,
    pub since: String,
    pub last_heard_s: f64,
    pub last_heartbeat_s: Option<f64>,
    pub round_trip_ms: Option<f64>,
    #[serde(flatten)]
    pub traffic: Traffic,
    pub asked: ByOutcome,
    pub handled: ByOutcome,
    pub reconnects: u64,
    pub history: Steps,
    pub certificate: CertificateShown,
    pub extensions: Vec<&'a str>,
}

/// A number per outcome, as a JSON object.
pub(super) struct ByOutcome([u64; RequestOutcome::ALL.len()]);

impl ByOutcome {
    /// Fills in the value of `count` for each outcome.
    pub fn new(count: impl Fn(RequestOutcome) -> u64) -> Self {
        Self(RequestOutcome::ALL.map(count))
    }
}

impl Serialize for ByOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(RequestOutcome::ALL.iter().map(|outcome| outcome.as_str()).zip(&self.0))
    }
}
