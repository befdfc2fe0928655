//! The time until a deadline.

use std::time::{Duration, Instant};

/// How long it is until `deadline`; zero once it has passed.
pub(crate) fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
