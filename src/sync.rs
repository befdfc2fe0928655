//! What threads share: permits, deadlines, starting threads, workers, limits on repeated log lines.
//!
//! In scope: mechanisms without a subject of their own. Not in scope: what they are used for.

pub(crate) mod deadline;
pub(crate) mod permits;
pub(crate) mod threads;
pub(crate) mod throttle;
pub(crate) mod workers;
