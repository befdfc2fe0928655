//! One thread per connection, up to the connection limit.

use std::io::Read;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::Socket;

use crate::event::errors;
use crate::http::connection;
use crate::http::refusal::Refusal;
use crate::http::response::HttpResponse;
use crate::http::response_writer::print_head;
use crate::http::shared::Shared;
use crate::http::slots::ConnectionSlot;
use crate::http1::framing::Framing;
use crate::sync::threads;

/// Stack size of a connection thread, which may have to write a TLS record.
const STACK_BYTES: usize = 256 * 1024;

/// Starts a thread for an accepted connection, or refuses the connection with 503.
pub(super) fn admit(socket: Socket, shared: &Arc<Shared>) {
    let (cause, why) = match shared.slots.admit(socket) {
        Ok(slot) => {
            let (name, served) = (format!("http-{}", slot.id()), Arc::clone(shared));
            let serve = move || serve(&served, slot);
            match threads::spawn_with_stack(name, STACK_BYTES, serve) {
                Ok(_) => return,
                Err(error) => ("no thread", format!("no thread for a connection: {error}")),
            }
        }
        Err(socket) => {
            refuse_connection(socket);
            let most = shared.settings.limits.max_connections;
            ("all places taken", format!("{most} connections are open already"))
        }
    };
    shared.callers_log.warn(cause, "http", &format!("refused a connection: {why}"));
}

/// Runs a connection's thread. A panic costs only this connection.
fn serve(shared: &Shared, slot: ConnectionSlot) {
    // The state that outlives the closure is dropped or atomic.
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

/// Answers 503 without blocking, if possible.
fn refuse_connection(socket: Socket) {
    let refusal = Refusal::closing(errors::FULL, "too many connections are open")
        .with_header("Retry-After", "1");
    let HttpResponse { head, body } = HttpResponse::of_refusal(&refusal);
    let mut bytes = Vec::new();
    if socket.set_nonblocking(true).is_ok()
        && let body = body.whole().unwrap_or_default()
        && let length = Framing::Length(body.len() as u64)
        && print_head(&mut bytes, head, length, Some("close")).is_ok()
    {
        bytes.extend_from_slice(body);
        // Best effort: if the socket is full, the response is lost. A request that has already
        // arrived is read first, since closing with unread data would discard the response.
        let _ = socket.send(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = (&socket).read(&mut [0; 4096]);
    }
}
