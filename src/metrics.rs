//! Counting what happens in a node, for Prometheus and for statsd.
//!
//! In scope: what is counted, and the forms in which it is handed out. Not in scope: when something
//! happens.

pub mod exposition;
pub mod meter;
pub mod statsd;
