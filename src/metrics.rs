//! Metrics of a node, for Prometheus and statsd.
//!
//! In scope: what is counted, and the export formats. Not in scope: when something happens.

pub mod exposition;
pub mod meter;
pub mod statsd;
