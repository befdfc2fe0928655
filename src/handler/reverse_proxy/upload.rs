//! A request's body that is sent while the reply may already come: by a thread of its own, since both
//! directions may have to move for either to.
//!
//! In scope: the framing, and that a body which is not what it was announced to be never looks whole.
//! Not in scope: bodies in memory that are small: they are written with the head.

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

/// Stack of the thread that sends a body.
const STACK_BYTES: usize = 256 * 1024;

/// A body on its way. Dropped, it is not sent any further.
pub(super) struct ProxyUpload {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Counts whatever shows that it is not the service that holds it up.
    moves: AtomicU64,
    /// Guards what is handed over; nothing is done while it is held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: Option<SendEnd>,
    /// The connection, where the reply ended first.
    connection: Option<ServiceConnection>,
}

/// How sending ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SendEnd {
    Whole,
    /// The service takes no more of it, or nobody wants it to.
    Stopped,
    /// It could not be read to its end.
    Broken(String),
}

impl From<WrongLength> for SendEnd {
    fn from(error: WrongLength) -> Self {
        Self::Broken(error.to_string())
    }
}

impl ProxyUpload {
    /// Sends `body` on this connection, behind the head that says how it is framed. A connection that
    /// was good to its end goes to `idle`.
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
            // Stops its sender.
            drop(body);
            let mut state = own.state.lock();
            state.ended = Some(ended.clone());
            let left = state.connection.take();
            drop(state);
            match (ended, left) {
                (SendEnd::Whole, Some(connection)) => idle.give(connection),
                // The service must not take it for complete, and the reader of the reply must notice.
                (SendEnd::Broken(_), _) => drop(socket.shutdown(Shutdown::Both)),
                (SendEnd::Whole | SendEnd::Stopped, _) => {}
            }
        })?;
        Ok(Self { shared })
    }

    /// A number that has changed when something has moved.
    pub fn moves(&self) -> u64 {
        self.shared.moves.load(Ordering::Relaxed)
    }

    /// Why the body could not be read to its end, if it could not.
    pub fn broken(&self) -> Option<String> {
        match &self.shared.state.lock().ended {
            Some(SendEnd::Broken(why)) => Some(why.clone()),
            Some(SendEnd::Whole | SendEnd::Stopped) | None => None,
        }
    }

    /// The reply is whole: the rest of the body is no longer needed. The connection goes to `idle`, now
    /// or when the last byte, which may be on its way, was sent.
    pub fn end(self, connection: ServiceConnection, idle: &IdleConnections) {
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
