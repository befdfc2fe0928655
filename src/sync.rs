//! What threads share: permits, shares, deadlines, starting threads, workers, limits on log lines.
//!
//! In scope: mechanisms without a subject of their own. Not in scope: what they are used for.

pub(crate) mod deadline;
pub(crate) mod line_budget;
pub(crate) mod permits;
pub(crate) mod shares;
pub(crate) mod threads;
pub(crate) mod throttle;
pub(crate) mod workers;
