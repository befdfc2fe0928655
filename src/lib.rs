//! RestPipe keeps systems connected: N clients each hold one mutually authenticated TLS
//! connection to a server, and either side asks the other over it with ordinary HTTP requests to
//! a local port.
//!
//! A program with handlers of its own is a `main` of a few lines: see [`run`] for an example,
//! [`handler`] for what a handler gets and returns.

mod accept;
mod changes;
pub mod cli;
pub mod config;
mod dial;
pub mod event;
pub mod events;
pub mod handler;
pub mod hook;
pub mod http;
pub mod identity;
pub mod link;
pub mod logging;
pub mod meter;
pub mod node;
pub mod peer;
pub mod pipe;
pub mod rules;
pub mod run;
pub mod signals;
pub mod statsd;
mod throttle;
pub mod wire;

pub use config::{Bind, ClientConfig, IdentityFiles, ServerConfig};
pub use event::{Body, Event, RemoteFailure, Reply, Verb, raise_for_exception};
pub use events::ConnectionEvent;
pub use handler::{Context, Failure, Handler, Router};
pub use node::{Client, Server, StartError};
pub use peer::PeerIdentity;
pub use pipe::{Pipe, RequestError};
