//! Connection events: who connected, who left, what failed; reported one after another, in order.
//!
//! In scope: the events, the one thread that calls those who listen, so that they may take their time
//! without holding up a pipe, and a [`hook`], a program that is run for each event. Not in scope: when
//! something happens (`node`).

mod connection_event;
mod events;
pub mod hook;
mod idle;
mod listeners;

pub use connection_event::ConnectionEvent;
pub use events::{Events, MAX_QUEUED};
pub use listeners::{Ending, EventListeners};
