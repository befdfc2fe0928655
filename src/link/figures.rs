//! What a link shows of itself.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::wire::Capabilities;

/// A snapshot of a link.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// When the link was established.
    pub since: SystemTime,
    /// Time since bytes last arrived.
    pub silent: Duration,
    /// Round-trip time of the last heartbeat. On a server the value is the client's, and one
    /// heartbeat old.
    pub round_trip: Option<Duration>,
    /// Time since the last heartbeat or heartbeat reply arrived.
    pub last_heartbeat: Option<Duration>,
    /// Current load and totals.
    pub traffic: Traffic,
    /// What can be sent to the peer.
    pub capabilities: Capabilities,
}

/// Current load and totals of a link.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Traffic {
    /// Requests to the peer that await a reply.
    pub in_flight: usize,
    /// The peer's requests that are running or queued.
    pub handling: usize,
    /// Those queued behind other requests of the same peer.
    pub waiting: usize,
    /// Messages waiting to be written.
    pub unsent: usize,
    /// Bodies in pieces in both directions, including tunnelled connections.
    pub streams: usize,
    /// Bytes of ciphertext received.
    pub bytes_in: u64,
    /// Bytes of ciphertext sent.
    pub bytes_out: u64,
}
