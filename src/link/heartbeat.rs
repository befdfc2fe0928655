//! The heartbeat: the client's sign of life, and the end of a link whose peer gives none.
//!
//! Life is judged by bytes received, never by what was sent: a socket takes bytes for a dead peer
//! for minutes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::output::SendError;
use super::{Link, LinkEnd, millis};
use crate::metrics::meter::Mark;
use crate::wire::{EXTENSIONS, Heartbeat, encode_heartbeat};

/// How a link keeps itself alive.
#[derive(Clone, Copy, Debug)]
pub enum HeartbeatMode {
    /// The client's side: sends a heartbeat per interval, and may not hear nothing for `silence`.
    Sends {
        /// Time between heartbeats.
        interval: Duration,
        /// How long the server may be silent; longer than the interval.
        silence: Duration,
    },
    /// The server's side: answers heartbeats, and may not hear nothing for this long, unless the
    /// client announces another time.
    Answers {
        /// How long the client may be silent.
        silence: Duration,
    },
}

impl HeartbeatMode {
    /// How long the peer may be silent.
    pub(super) const fn silence(self) -> Duration {
        match self {
            Self::Sends { silence, .. } | Self::Answers { silence } => silence,
        }
    }
}

/// A client that has said nothing for this long is an original, and ready.
const SETTLE_MS: u64 = 1000;

/// Sends heartbeats and watches for silence until the link is closed.
pub(super) fn run(link: &Arc<Link>) {
    let mut next_beat = match link.heartbeat {
        HeartbeatMode::Sends { .. } => Some(0),
        HeartbeatMode::Answers { .. } => None,
    };
    while !link.is_closed() {
        let now = link.since_start_ms();
        if let (HeartbeatMode::Sends { interval, silence }, Some(due)) = (link.heartbeat, next_beat)
            && now >= due
        {
            let heartbeat = Heartbeat {
                extensions: EXTENSIONS,
                silence_ms: Some(u32::try_from(silence.as_millis()).unwrap_or(u32::MAX)),
                max_data: Some(u32::try_from(link.limits.max_data).unwrap_or(u32::MAX)),
                takes_over: link.takes_over(),
                round_trip_us: link.counts.round_trip_us(),
            };
            link.counts.heartbeat(link.started, || {
                // Full: the peer takes nothing, which its silence will show. Closed: the loop ends.
                let (Ok(()) | Err(SendError::Full | SendError::Closed)) =
                    link.output.send_control(encode_heartbeat(fastrand::u32(..), heartbeat));
            });
            next_beat = Some(now + millis(interval).max(1));
        }
        let silence = link.silence_ms.load(Ordering::Relaxed);
        let dead = link.heard_ms.load(Ordering::Relaxed).saturating_add(silence);
        if now >= dead {
            if matches!(link.heartbeat, HeartbeatMode::Sends { .. }) {
                link.service.meter().mark(Mark::HeartbeatMissed);
            }
            link.close(LinkEnd::Silent(Duration::from_millis(silence)));
            return;
        }
        let mut wake = next_beat.map_or(dead, |due| due.min(dead));
        if matches!(link.heartbeat, HeartbeatMode::Answers { .. }) && !link.is_ready() {
            if now >= SETTLE_MS {
                link.set_ready();
            } else {
                wake = wake.min(SETTLE_MS);
            }
        }
        let _ = link.alarmed.recv_timeout(Duration::from_millis(wake.saturating_sub(now)));
    }
}
