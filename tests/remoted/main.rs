//! Raw TCP through a broker: the broker, the two ends, and all three together.

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod connect;
mod end_to_end;
mod processes;
mod publish;
mod ssh;
