//! What a request may still cost, whatever happens to the links that it is sent on.

use std::time::{Duration, Instant};

/// Maximum wait for an absent peer.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

/// How often a request may be written at most: a peer that takes it and then loses its link each
/// time must not handle it for ever.
const MAX_SENDINGS: u32 = 3;

/// The rest of a request's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLimits {
    /// How long it may still wait for an absent peer.
    pub wait: Duration,
    /// How long it may still wait for its reply.
    pub reply: Duration,
    /// How often it may still be written.
    pub sendings: u32,
}

impl RequestLimits {
    /// The limits of a new request.
    pub fn new(wait: Duration, reply: Duration) -> Self {
        Self { wait: wait.min(MAX_WAIT), reply, sendings: MAX_SENDINGS }
    }

    /// Whether it may not be sent once more.
    pub fn are_spent(&self) -> bool {
        self.sendings == 0 || self.reply.is_zero()
    }

    /// Does what waits for an absent peer, and takes the time from the limit.
    pub fn waiting<T>(&mut self, work: impl FnOnce(Duration) -> T) -> T {
        spend(&mut self.wait, work)
    }

    /// Does what waits for the reply, and takes the time from the limit.
    pub fn replying<T>(&mut self, work: impl FnOnce(Duration) -> T) -> T {
        spend(&mut self.reply, work)
    }
}

fn spend<T>(left: &mut Duration, work: impl FnOnce(Duration) -> T) -> T {
    let began = Instant::now();
    let done = work(*left);
    *left = left.saturating_sub(began.elapsed());
    done
}
