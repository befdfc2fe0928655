//! The local HTTP port: HTTP/1.0 and 1.1 over TCP or a Unix socket, in front of a
//! [`Pipe`](crate::event::pipe::Pipe).
//!
//! In scope: accepting, reading requests strictly, refusing what a local port must refuse, routing
//! to a peer, and writing the answer. Not in scope: how a peer is reached, and what answers there.
//!
//! A connection has one thread, which parses, asks the pipe, waits and writes. Nothing is handed to
//! another thread, and a request costs one read and one write of the socket. A large body is read
//! while the pipe sends it on, and a large reply is written while it arrives. Bytes from a caller
//! are bounded everywhere: in the head, in what is held of bodies, and in time.

mod admit;
mod body;
mod budget;
mod connection;
mod guard;
mod head;
mod local;
mod refusal;
mod request;
mod response;
mod response_writer;
mod route;
mod server;
mod shared;
mod slots;
mod streamed;
mod upload;

use std::time::Duration;

pub use crate::net::accept::BindError;
pub use server::HttpServer;

use crate::config::Bind;
use crate::event::peer::Role;

/// The settings of a [`HttpServer`].
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where to listen; port 0 takes a free one.
    pub bind: Bind,
    /// The side this node is on: it decides between `/client/HOST/...` and `/server/...`.
    pub role: Role,
    /// Accepted `Host` and `Origin` names beside loopback ones.
    pub allowed_hosts: Vec<String>,
    /// The largest body that is held in memory anywhere, in bytes. A body that streams may be
    /// longer.
    pub max_body_bytes: usize,
    /// How long a request waits for a peer that is away, unless the caller asks for less.
    pub connection_wait: Duration,
    /// Bounds in count and time.
    pub limits: HttpLimits,
}

impl HttpSettings {
    /// Loopback with the documented defaults, on a free port.
    pub fn new(role: Role) -> Self {
        Self {
            bind: Bind::Tcp(([127, 0, 0, 1], 0).into()),
            role,
            allowed_hosts: Vec::new(),
            max_body_bytes: 16 * 1024 * 1024,
            connection_wait: Duration::from_secs(20),
            limits: HttpLimits::default(),
        }
    }
}

/// Bounds that protect the node; the defaults fit every use but tests.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Most connections at once; one more is answered 503 and closed.
    pub max_connections: usize,
    /// Most bytes of request bodies held at once by all connections; absent, 16 times
    /// [`HttpSettings::max_body_bytes`]. Only small bodies are held, larger ones stream.
    pub max_held_bytes: Option<usize>,
    /// From the first byte of a head to its last; then 408.
    pub head_timeout: Duration,
    /// How long a connection may be silent between requests; then it is closed.
    pub idle_timeout: Duration,
    /// How long a body may stand still while it is waited for; then 408.
    pub body_timeout: Duration,
    /// How long the socket may take nothing of an answer; then it is closed.
    pub write_timeout: Duration,
    /// The whole of a body, and the whole of an answer, that is in memory. One that streams may take
    /// any time, as long as it moves.
    pub transfer_timeout: Duration,
    /// How long a connection that was refused in the middle of its request is still read from, so
    /// that the caller gets to see the refusal instead of a reset (RFC 9112, section 9.6).
    pub linger: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 2048,
            max_held_bytes: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            transfer_timeout: Duration::from_secs(300),
            linger: Duration::from_secs(1),
        }
    }
}
