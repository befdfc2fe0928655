//! What peers say to each other when one of them is about to stop.

use std::time::Duration;

/// No client stays away for longer, whatever the server announces.
const MAX_SPREAD: Duration = Duration::from_secs(60);

/// One side's part in an orderly end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainNotice {
    /// The sender is about to stop: send nothing new, and answer [`DrainNotice::Drained`] once nothing
    /// that was asked waits for its reply.
    Draining {
        /// A client comes back after a random part of this. At most a minute.
        spread: Duration,
    },
    /// Nothing that the sender asked waits for its reply, and it asks nothing more.
    Drained,
}

impl DrainNotice {
    /// What the fields of a heartbeat say.
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

    /// The fields of a heartbeat that say it.
    pub(super) fn fields(self) -> (Option<u32>, Option<bool>) {
        match self {
            Self::Draining { spread } => {
                (Some(u32::try_from(spread.as_millis()).unwrap_or(u32::MAX)), None)
            }
            Self::Drained => (None, Some(true)),
        }
    }
}
