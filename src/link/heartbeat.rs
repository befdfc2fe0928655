//! The heartbeat thread: sends the client's heartbeats, and closes a link whose peer is silent.
//!
//! Liveness is judged by received bytes only: a socket accepts bytes for a dead peer for minutes.

use std::time::Duration;

use super::closing::Closing;
use super::end::LinkEnd;
use super::health::{Health, HeartbeatMode, millis};
use super::output::SendError;
use super::transport::Transport;
use crate::metrics::meter::{Mark, Meter};
use crate::wire::{EXTENSIONS, Heartbeat, encode_heartbeat};

/// A client silent for this long is an original, and counts as ready.
const READY_AFTER_MS: u64 = 1000;

/// Sends heartbeats and watches for silence until the link is closed. Calls `set_ready` if the peer
/// is ready without having sent anything.
pub(super) fn run(
    health: &Health,
    transport: &Transport,
    closing: &Closing,
    meter: &dyn Meter,
    set_ready: impl Fn(),
) {
    let mut next_beat = health.mode.sends().then_some(0);
    while !closing.is_closed() {
        let now = health.now_ms();
        if let (HeartbeatMode::Sends { interval, silence }, Some(due)) = (health.mode, next_beat)
            && now >= due
        {
            let heartbeat = Heartbeat {
                extensions: EXTENSIONS,
                silence_ms: Some(u32::try_from(silence.as_millis()).unwrap_or(u32::MAX)),
                max_data: Some(transport.max_data()),
                takes_over: health.takes_over(),
                round_trip_us: health.round_trip_us(),
            };
            health.send_heartbeat(|| {
                let bytes = encode_heartbeat(fastrand::u32(..), heartbeat);
                // Full: the peer reads nothing, and its silence will show. Closed: the loop ends.
                let (Ok(()) | Err(SendError::Full | SendError::Closed)) =
                    transport.output.send_control(bytes);
            });
            next_beat = Some(now + millis(interval).max(1));
        }
        let silent_at = health.silent_at_ms();
        if now >= silent_at {
            if health.mode.sends() {
                meter.mark(Mark::HeartbeatMissed);
            }
            closing.begin(LinkEnd::Silent(Duration::from_millis(health.silence_ms())));
            return;
        }
        let mut wake = next_beat.map_or(silent_at, |due| due.min(silent_at));
        if !health.mode.sends() && !health.is_ready() {
            if now >= READY_AFTER_MS {
                set_ready();
            } else {
                wake = wake.min(READY_AFTER_MS);
            }
        }
        closing.wait(Duration::from_millis(wake.saturating_sub(now)));
    }
}
