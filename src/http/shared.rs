//! What all connections of a port use.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::event::inspect::Inspect;
use crate::event::pipe::Pipe;
use crate::http::HttpSettings;
use crate::http::budget::Budget;
use crate::http::guard::Guard;
use crate::http::slots::ConnectionSlots;
use crate::sync::throttle::Throttle;

/// One for each port.
pub(super) struct Shared {
    pub settings: HttpSettings,
    pub pipe: Arc<dyn Pipe>,
    /// The node, where it is shown.
    pub inspect: Option<Arc<dyn Inspect>>,
    pub guard: Guard,
    pub budget: Budget,
    pub slots: Arc<ConnectionSlots>,
    /// Keeps refused requests from flooding the log.
    pub refusals: Throttle,
    /// The same for requests of which nobody knows whether they were handled.
    pub unknown: Throttle,
    /// The same for callers that were turned away.
    pub crowded: Throttle,
    /// Requests that panicked.
    pub panics: AtomicU64,
}
