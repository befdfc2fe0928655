//! Connections of this machine: listening and accepting, and dialling, through a proxy where one is set.
//!
//! In scope: sockets until they are connected. Not in scope: what travels over them, and where the
//! addresses come from.

pub(crate) mod accept;
pub(crate) mod bind;
pub(crate) mod dial;

pub use bind::Bind;
