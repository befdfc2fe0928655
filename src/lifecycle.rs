//! Connection events: connects, disconnects and failures, reported in order.
//!
//! In scope: the events, the single thread that calls the listeners, so that a slow listener never
//! blocks a pipe, and a [`hook`], a program run for each event. Not in scope: when events occur
//! (`node`).

mod connection_event;
mod events;
pub mod hook;
mod idle;
mod listeners;

pub use connection_event::ConnectionEvent;
pub use events::{Events, MAX_QUEUED};
pub use listeners::{Ending, EventListeners};
