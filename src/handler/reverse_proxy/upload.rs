//! Sends a request body on a thread of its own while the reply may already arrive: either direction
//! may depend on progress of the other.
//!
//! In scope: the framing, and ensuring that a body of the wrong length never looks complete. Not in
//! scope: small buffered bodies, which are written with the head.

use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use socket2::Socket;

use super::connection::{POLL_INTERVAL, ServiceConnection, is_timeout};
use super::idle::IdleConnections;
use crate::event::Body;
use crate::http1::body::{self, WrongLength};
use crate::http1::framing::Framing;
use crate::sync::threads;

/// Stack size of the sending thread.
const STACK_BYTES: usize = 256 * 1024;

/// A body that is being sent. Dropping it stops sending.
pub(super) struct ProxyUpload {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Incremented when there is progress, or when the service is not what delays it.
    moves: AtomicU64,
    /// Guards the state that is handed over; never held across I/O.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: Option<SendEnd>,
    /// The connection, if the reply was complete first.
    connection: Option<ServiceConnection>,
}

/// The result of sending.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SendEnd {
    Whole,
    /// The service accepts no more of it, or it is no longer needed.
    Stopped,
    /// The body could not be read completely, for this reason.
    Broken(String),
}

impl From<WrongLength> for SendEnd {
    fn from(error: WrongLength) -> Self {
        Self::Broken(error.to_string())
    }
}

impl ProxyUpload {
    /// Sends `body` on this connection, after the head that declares its framing. If the connection
    /// can be reused afterwards, it goes to `idle`.
    pub fn begin(
        connection: &ServiceConnection,
        mut body: Body,
        framing: Framing,
        idle: Arc<IdleConnections>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let socket = connection.socket();
        threads::spawn_with_stack("service-upload", STACK_BYTES, move || {
            let ended = own.send(&socket, &mut body, framing);
            // Stops the body's sender.
            drop(body);
            let mut state = own.state.lock();
            state.ended = Some(ended.clone());
            let left = state.connection.take();
            drop(state);
            match (ended, left) {
                (SendEnd::Whole, Some(connection)) => idle.give(connection),
                // The service must not see a complete body, and the reader of the reply must
                // notice.
                (SendEnd::Broken(_), _) => drop(socket.shutdown(Shutdown::Both)),
                (SendEnd::Whole | SendEnd::Stopped, _) => {}
            }
        })?;
        Ok(Self { shared })
    }

    /// A counter that changes with every progress.
    pub fn moves(&self) -> u64 {
        self.shared.moves.load(Ordering::Relaxed)
    }

    /// Why the body could not be read completely, if so.
    pub fn broken(&self) -> Option<String> {
        match &self.shared.state.lock().ended {
            Some(SendEnd::Broken(why)) => Some(why.clone()),
            Some(SendEnd::Whole | SendEnd::Stopped) | None => None,
        }
    }

    /// The reply is complete, so the rest of the body is no longer needed. The connection goes to
    /// `idle` now, or once the last byte, which may be in flight, has been sent.
    pub fn end(self, connection: ServiceConnection, idle: &Arc<IdleConnections>) {
        let mut state = self.shared.state.lock();
        match state.ended {
            Some(SendEnd::Whole) => {
                drop(state);
                idle.give(connection);
            }
            Some(SendEnd::Stopped | SendEnd::Broken(_)) => drop(state),
            None => state.connection = Some(connection),
        }
    }
}

impl Drop for ProxyUpload {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    fn send(&self, socket: &Socket, body: &mut Body, framing: Framing) -> SendEnd {
        let sent = body::send(
            framing,
            |buffer| self.next(body, buffer),
            |bytes| self.write(socket, bytes),
        );
        sent.err().unwrap_or(SendEnd::Whole)
    }

    fn next(&self, body: &mut Body, buffer: &mut [u8]) -> Result<usize, SendEnd> {
        loop {
            self.check()?;
            let read = body.read_within(buffer, POLL_INTERVAL);
            self.moves.fetch_add(1, Ordering::Relaxed);
            match read {
                Ok(Some(count)) => return Ok(count),
                Ok(None) => {}
                Err(error) => return Err(SendEnd::Broken(error.to_string())),
            }
        }
    }

    fn write(&self, mut socket: &Socket, mut bytes: &[u8]) -> Result<(), SendEnd> {
        while !bytes.is_empty() {
            match socket.write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.moves.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if is_timeout(&error) => self.check()?,
                Err(_) => return Err(SendEnd::Stopped),
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), SendEnd> {
        if self.stop.load(Ordering::Acquire) { Err(SendEnd::Stopped) } else { Ok(()) }
    }
}
