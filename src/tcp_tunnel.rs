//! TCP connections over the pipe: each is an event of the verb `connect` whose body and reply's body
//! are what its two ends send.
//!
//! In scope: the targets that peers may reach, the ports whose connections are carried, and the copying
//! between a socket and a body. Not in scope: the bodies' way over the pipe (`link`), rules (`handler`).

mod connection;
mod listen;
mod targets;

pub(crate) use connection::Connection;
pub(crate) use listen::Listeners;
pub(crate) use targets::Targets;

use std::time::Duration;

/// How often a thread that waits for a socket looks whether the other direction has failed.
const LOOK: Duration = Duration::from_millis(250);
