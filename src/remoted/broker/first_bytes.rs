//! Keeps a caller's first bytes from a server that would lose them.
//!
//! The original's server loses the bytes that it reads together with its 101. Ours says in its request that it
//! keeps them. Any other gets bytes of its caller only after it has read its 101. Nobody says so, but it shows:
//!
//! - It has sent something itself, which it does only after its 101.
//! - Or it has answered two pings on its registration, one after the other, since its 101 was sent. It attends to
//!   all its connections in turns, on one thread. The turn that answers the first ping may read the 101 only
//!   later in the same turn; the answer to the second one comes from a turn after that.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::registered_server::{PingError, RegisteredServer};
use super::visitor::Visitor;
use crate::remoted::stream::{ReadyEvent, Stream, wait_any};

/// The number of pings that a server answers to show that it has read its 101.
const PINGS: usize = 2;
/// How often to check whether the server has sent something while it is to answer a ping.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The time for a server that has answered no ping before.
const MUTE_TIME: Duration = Duration::from_millis(50);

/// Waits until the caller's first bytes can be sent to the server: for as long as the caller sends none, at
/// most `idle`; and from then on at most `time`. False if neither side has sent anything within `idle`.
pub(super) fn wait_until_safe(
    caller: &Visitor,
    server: &Visitor,
    registration: &RegisteredServer,
    time: Duration,
    idle: Option<Duration>,
) -> bool {
    if !wait_first(&caller.stream, &server.stream, idle) {
        return false;
    }
    let was_mute = registration.is_mute.load(Ordering::Relaxed);
    let deadline = Instant::now() + if was_mute { MUTE_TIME } else { time };
    let has_read = has_read_answer(&server.stream, registration, deadline);
    if !has_read && !was_mute {
        registration.is_mute.store(true, Ordering::Relaxed);
        log::warn!(
            "server {}: it has not answered a ping on {} for {time:?}: if it reads the first bytes of a caller \
             together with its 101, it may lose them; this is caller {}",
            server.name,
            registration.path,
            caller.name
        );
    }
    true
}

/// Waits until one of the two has sent something. False at the limit.
fn wait_first(caller: &Stream, server: &Stream, idle: Option<Duration>) -> bool {
    if has_sent(caller) || has_sent(server) {
        return true;
    }
    let mut ends = [
        PollFd::from_borrowed_fd(caller.input(), PollFlags::IN),
        PollFd::from_borrowed_fd(server.input(), PollFlags::IN),
    ];
    let deadline = idle.and_then(|idle| Instant::now().checked_add(idle));
    // An error shows again when the bytes are carried.
    wait_any(&mut ends, deadline).unwrap_or(true)
}

/// Waits until it shows that the server has read its 101. False at the deadline.
fn has_read_answer(server: &Stream, registration: &RegisteredServer, deadline: Instant) -> bool {
    for _ in 0..PINGS {
        // Without a registration, only its own bytes can show it.
        let Ok(answer) = registration.ping() else { return wait_sent(server, deadline) };
        loop {
            if has_sent(server) {
                return true;
            }
            match answer.wait(POLL_INTERVAL) {
                Ok(()) => break,
                Err(PingError::Ended) => return wait_sent(server, deadline),
                Err(PingError::Silent) if Instant::now() >= deadline => return false,
                Err(PingError::Silent) => {}
            }
        }
    }
    true
}

fn has_sent(stream: &Stream) -> bool {
    wait_sent(stream, Instant::now())
}

fn wait_sent(stream: &Stream, deadline: Instant) -> bool {
    stream.wait(ReadyEvent::Readable, deadline).is_ok()
}
