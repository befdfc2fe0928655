//! The two ends of a pipe: which one a node is, and who is at the other.
//!
//! In scope: plain facts that all layers speak of. Not in scope: how they are found out
//! (`identity`), and what a peer may ask.

use std::net::IpAddr;

/// The two sides of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Listens for pipes.
    Server,
    /// Dials out.
    Client,
}

impl Role {
    /// `server` or `client`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// A peer, by its verified certificate and its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The name in its certificate.
    pub name: String,
    /// SHA-256 of the certificate's DER form, lower-case hex.
    pub fingerprint: String,
    /// Where it connects from, or is connected to.
    pub address: IpAddr,
}
