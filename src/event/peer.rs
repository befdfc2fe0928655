//! The two ends of a pipe: a node's role, and its peer.
//!
//! In scope: facts that all layers use. Not in scope: how they are verified (`identity`), and what
//! a peer may request.

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

/// A peer, from its verified certificate and its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The name in its certificate.
    pub name: String,
    /// SHA-256 of the certificate's DER form, lower-case hex.
    pub fingerprint: String,
    /// The remote address of its connection.
    pub address: IpAddr,
}
