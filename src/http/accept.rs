//! Accepting connections: a loop that no error ends, and a thread for each connection.

use std::io::{self, Read};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use socket2::Socket;

use crate::http::answer::Answer;
use crate::http::connection;
use crate::http::face::Shared;
use crate::http::output::print_head;
use crate::http::refusal::Refusal;
use crate::http::slots::Slot;
use crate::http::throttle::Throttle;

/// Stack of a connection's thread: room for a TLS record written by the asking thread.
const STACK_BYTES: usize = 256 * 1024;
/// How long accepting pauses when the system has no more sockets to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the face stops. `stopped` is disconnected then.
pub(super) fn run(listener: &Socket, shared: &Arc<Shared>, stopped: &Receiver<()>) {
    let errors = Throttle::default();
    let crowded = Throttle::default();
    while !shared.slots.stopping() {
        match listener.accept() {
            Ok((socket, _)) => admit(socket, shared, &crowded),
            Err(_) if shared.slots.stopping() => return,
            Err(e) => {
                if let Some(left_out) = errors.note(Instant::now()) {
                    log::warn!(
                        "http: accepting failed, trying again: {e} \
                         ({left_out} more since the last such line)"
                    );
                }
                let passing = matches!(
                    e.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                );
                // The face dropped its end: it stops.
                if !passing && stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        }
    }
}

fn admit(socket: Socket, shared: &Arc<Shared>, crowded: &Throttle) {
    let refused = match shared.slots.admit(socket) {
        Ok(slot) => {
            let shared = Arc::clone(shared);
            thread::Builder::new()
                .name(format!("http-{}", slot.id()))
                .stack_size(STACK_BYTES)
                .spawn(move || serve(&shared, slot))
                .err()
                .map(|e| format!("no thread for a connection: {e}"))
        }
        Err(socket) => {
            turn_away(socket);
            Some(format!("{} connections are open already", shared.settings.limits.max_connections))
        }
    };
    if let Some(why) = refused
        && let Some(left_out) = crowded.note(Instant::now())
    {
        log::warn!("http: turned a caller away: {why} ({left_out} more since the last such line)");
    }
}

/// A connection's thread. A panic costs this connection alone.
fn serve(shared: &Shared, slot: Slot) {
    // What the closure leaves behind is dropped, or atomic.
    let served = catch_unwind(AssertUnwindSafe(|| connection::serve(shared, &slot)));
    if let Err(panic) = served {
        let panics = shared.panics.fetch_add(1, Ordering::Relaxed) + 1;
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        log::error!(
            "http: a request panicked and its connection was closed: {} (panic {panics})",
            text.escape_debug()
        );
        let _ = slot.socket().shutdown(Shutdown::Both);
    }
}

/// Says 503 as far as that is possible without waiting.
fn turn_away(socket: Socket) {
    let refusal = Refusal::closing(503, "full", "too many connections are open")
        .with_header("Retry-After", "1");
    let Answer { status, headers, body } = Answer::of_refusal(&refusal);
    let mut bytes = Vec::new();
    if socket.set_nonblocking(true).is_ok()
        && print_head(&mut bytes, status, headers, body.len(), Some("close")).is_ok()
    {
        bytes.extend_from_slice(&body);
        // Best effort: a caller that takes nothing gets nothing. A request that has arrived is
        // read, as closing before that would take the answer away again.
        let _ = socket.send(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = (&socket).read(&mut [0; 4096]);
    }
}
