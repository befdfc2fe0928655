//! The notices that peers exchange when one of them is stopping.

use std::time::Duration;

/// Upper limit for an announced spread: no client stays away longer.
const MAX_SPREAD: Duration = Duration::from_secs(60);

/// A drain notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainNotice {
    /// The sender is stopping: send nothing new, and answer [`DrainNotice::Drained`] when no
    /// request is pending.
    Draining {
        /// Clients reconnect after a random part of this; at most one minute.
        spread: Duration,
    },
    /// The sender has no pending requests and will send no more.
    Drained,
}

impl DrainNotice {
    /// Reads a notice from the fields of a heartbeat.
    pub(super) fn read(leaving_ms: Option<u32>, settled: Option<bool>) -> Option<Self> {
        match (leaving_ms, settled) {
            (Some(ms), _) => {
                let spread = Duration::from_millis(ms.into()).min(MAX_SPREAD);
                Some(Self::Draining { spread })
            }
            (None, Some(true)) => Some(Self::Drained),
            (None, _) => None,
        }
    }

    /// The heartbeat fields that carry the notice.
    pub(super) fn fields(self) -> (Option<u32>, Option<bool>) {
        match self {
            Self::Draining { spread } => {
                (Some(u32::try_from(spread.as_millis()).unwrap_or(u32::MAX)), None)
            }
            Self::Drained => (None, Some(true)),
        }
    }
}
