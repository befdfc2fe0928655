//! Connections of this machine: listening, accepting, and dialling, through a proxy if one is set.
//!
//! In scope: sockets until they are connected. Not in scope: the data on them, and the source of
//! addresses.

pub(crate) mod accept;
pub(crate) mod bind;
pub(crate) mod dial;
pub(crate) mod hangup;
pub(crate) mod reset;

pub use bind::Bind;
