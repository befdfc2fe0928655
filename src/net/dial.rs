//! Connecting out: where a host is, and when to try again.
//!
//! In scope: names, addresses, plain TCP, proxies on the way, waits. Not in scope: what is sent on a connection.

mod address;
mod backoff;
mod connect;
mod proxy;
mod resolve;

pub use address::Address;
pub(crate) use address::{bracketed, split_host_port};
pub(crate) use backoff::{Backoff, MAX_WAIT};
pub(crate) use connect::connect;
pub(crate) use proxy::Exceptions;
pub use proxy::Proxy;
pub(crate) use resolve::Resolver;
