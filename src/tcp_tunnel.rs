//! TCP connections over the pipe: each is a `connect` event whose request body and reply body carry
//! the two directions.
//!
//! In scope: the targets that peers may reach, the local ports whose connections are tunnelled, and
//! copying between a socket and a body. Not in scope: the transfer of bodies over the pipe
//! (`link`), rules (`handler`).

mod connection;
mod listen;
mod targets;

pub(crate) use connection::TunnelConnection;
pub(crate) use listen::TunnelListeners;
pub(crate) use targets::Targets;
