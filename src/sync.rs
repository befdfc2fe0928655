//! What threads share: bounds on how many do something at a time, workers, limits on repeated log lines.
//!
//! In scope: mechanisms without a subject of their own. Not in scope: what they are used for.

pub(crate) mod places;
pub(crate) mod throttle;
pub(crate) mod workers;
