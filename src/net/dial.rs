//! Outbound connections: resolving a host, connecting, and when to retry.
//!
//! In scope: names, addresses, plain TCP, proxies, waits. Not in scope: the data on a connection.

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
pub(crate) use resolve::{Lookup, Resolver};
