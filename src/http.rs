//! The local HTTP port: HTTP/1.0 and 1.1 over TCP or a Unix socket, in front of a
//! [`Pipe`](crate::event::pipe::Pipe).
//!
//! In scope: accepting connections, parsing requests strictly, refusing what a local port must
//! refuse, routing to a peer, and writing the response. Not in scope: how a peer is reached, and
//! what handles the request there.
//!
//! Each connection has one thread, which parses, calls the pipe, waits and writes. A request costs
//! no thread switch, one read and one write on the socket. Large request and response bodies
//! stream. Input from a caller is bounded everywhere: in the size of the head, in buffered body
//! bytes, and in time.

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
mod steering;
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
    /// The address to listen on; port 0 picks a free port.
    pub bind: Bind,
    /// The role of this node, which selects between `/client/HOST/...` and `/server/...`.
    pub role: Role,
    /// Accepted `Host` and `Origin` names besides loopback names.
    pub allowed_hosts: Vec<String>,
    /// Whether requests of browsers pass that show no page they come from.
    pub admit_unproven_browsers: bool,
    /// The peers, as named in paths, whose pages are not put in a sandbox; `*` for all.
    pub trusted_pages: Vec<String>,
    /// The largest body held in memory, in bytes. A streamed body may be longer.
    pub max_body_bytes: usize,
    /// How long a request waits for a disconnected peer, unless the caller asks for less.
    pub connection_wait: Duration,
    /// Limits on counts and times.
    pub limits: HttpLimits,
}

impl HttpSettings {
    /// Loopback on a free port, with the documented defaults.
    pub fn new(role: Role) -> Self {
        Self {
            bind: Bind::Tcp(([127, 0, 0, 1], 0).into()),
            role,
            allowed_hosts: Vec::new(),
            admit_unproven_browsers: false,
            trusted_pages: Vec::new(),
            max_body_bytes: 16 * 1024 * 1024,
            connection_wait: Duration::from_secs(20),
            limits: HttpLimits::default(),
        }
    }
}

/// Limits that protect the node; only tests need values other than the defaults.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Maximum number of concurrent connections; further ones get 503 and are closed.
    pub max_connections: usize,
    /// Maximum total size of buffered request bodies across all connections, in bytes; by default
    /// 16 times [`HttpSettings::max_body_bytes`]. Only small bodies are buffered, larger ones
    /// stream.
    pub max_held_bytes: Option<usize>,
    /// Time from the first byte of a head to its last; then 408.
    pub head_timeout: Duration,
    /// How long a connection may stay idle between requests before it is closed.
    pub idle_timeout: Duration,
    /// How long a body may make no progress while the node waits for it; then 408.
    pub body_timeout: Duration,
    /// How long writing a response may make no progress before the connection is closed.
    pub write_timeout: Duration,
    /// Time limit for reading a whole buffered body, and for writing a whole buffered response. A
    /// streamed one may take any time as long as it makes progress.
    pub transfer_timeout: Duration,
    /// How long to keep reading from a connection whose request was refused midway, so that the
    /// caller sees the refusal instead of a reset (RFC 9112, section 9.6).
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
