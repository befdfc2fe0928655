//! TCP connections over the pipe: each is an event of the verb `connect` whose body and reply's body
//! are what its two ends send.
//!
//! In scope: the targets that peers may reach, the ports whose connections are carried, and the copying
//! between a socket and a body. Not in scope: the bodies' way over the pipe (`link`), rules (`handler`).

mod connection;
mod listen;
mod targets;

pub(crate) use connection::TunnelConnection;
pub(crate) use listen::TunnelListeners;
pub(crate) use targets::Targets;
