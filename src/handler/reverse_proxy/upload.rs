//! A request's body that is sent while the reply may already come: by a thread of its own, since both
//! directions may have to move for either to.
//!
//! In scope: the framing, and that a body which is not what it was announced to be never looks whole.
//! Not in scope: bodies in memory that are small: they are written with the head.

use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::{Mutex, MutexGuard};
use socket2::Socket;

use super::connection::{Connection, TURN, is_turn};
use super::idle::Idle;
use super::request::Framing;
use crate::event::Body;
use crate::http1::chunked::{self, BEFORE, BEHIND};

/// Most bytes of one write.
const PIECE: usize = 64 * 1024;
/// Bytes of the thread's stack.
const STACK: usize = 256 * 1024;

/// A body on its way. Dropped, it is not sent any further.
pub(super) struct Upload {
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
    ended: Option<Ended>,
    /// The connection, where the reply ended first.
    connection: Option<Connection>,
}

/// How sending ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    Whole,
    /// The service takes no more of it, or nobody wants it to.
    Stopped,
    /// It could not be read to its end.
    Broken(String),
}

impl Upload {
    /// Sends `body` on this connection, behind the head that says how it is framed. A connection that
    /// was good to its end goes to `idle`.
    pub fn begin(
        connection: &Connection,
        mut body: Body,
        framing: Framing,
        idle: Arc<Idle>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let socket = connection.socket();
        thread::Builder::new().name("service-upload".to_owned()).stack_size(STACK).spawn(
            move || {
                let ended = own.send(&socket, &mut body, framing).unwrap_or_else(|ended| ended);
                // Whoever sends it is told that no more is wanted.
                drop(body);
                let mut state = own.lock();
                state.ended = Some(ended.clone());
                let left = state.connection.take();
                drop(state);
                match (ended, left) {
                    (Ended::Whole, Some(connection)) => idle.give(connection),
                    // The service must not take it for whole, and whoever reads the reply finds out.
                    (Ended::Broken(_), _) => drop(socket.shutdown(Shutdown::Both)),
                    (Ended::Whole | Ended::Stopped, _) => {}
                }
            },
        )?;
        Ok(Self { shared })
    }

    /// A number that has changed when something has moved.
    pub fn moves(&self) -> u64 {
        self.shared.moves.load(Ordering::Relaxed)
    }

    /// Why the body could not be read to its end, if it could not.
    pub fn broken(&self) -> Option<String> {
        match &self.shared.lock().ended {
            Some(Ended::Broken(why)) => Some(why.clone()),
            Some(Ended::Whole | Ended::Stopped) | None => None,
        }
    }

    /// The reply is whole: what was not sent is not wanted any more. The connection goes to `idle`, now
    /// or when the last byte, which may be on its way, was sent.
    pub fn end(self, connection: Connection, idle: &Idle) {
        let mut state = self.shared.lock();
        match state.ended {
            Some(Ended::Whole) => {
                drop(state);
                idle.give(connection);
            }
            Some(Ended::Stopped | Ended::Broken(_)) => drop(state),
            None => state.connection = Some(connection),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn send(&self, socket: &Socket, body: &mut Body, framing: Framing) -> Result<Ended, Ended> {
        let mut buffer = vec![0; BEFORE + PIECE + BEHIND];
        let mut left = match framing {
            Framing::None => 0,
            Framing::Length(length) => length,
            Framing::Chunked => u64::MAX,
        };
        loop {
            let count = self.next(body, &mut buffer[BEFORE..BEFORE + PIECE])?;
            if count as u64 > left {
                return Err(Ended::Broken("it is longer than it was said to be".to_owned()));
            }
            left -= count as u64;
            match (count, framing) {
                (0, Framing::Chunked) => {
                    self.write(socket, b"0\r\n\r\n")?;
                    return Ok(Ended::Whole);
                }
                (0, _) if left > 0 => {
                    return Err(Ended::Broken(format!("{left} bytes are missing at its end")));
                }
                (0, _) => return Ok(Ended::Whole),
                (_, Framing::Chunked) => self.write(socket, chunked::encode(&mut buffer, count))?,
                (_, _) => {
                    // The last piece makes it whole in the service's eyes: only once it is.
                    if left == 0 && self.next(body, &mut [0; 1])? > 0 {
                        let longer = "it is longer than it was said to be";
                        return Err(Ended::Broken(longer.to_owned()));
                    }
                    self.write(socket, &buffer[BEFORE..BEFORE + count])?;
                    if left == 0 {
                        return Ok(Ended::Whole);
                    }
                }
            }
        }
    }

    fn next(&self, body: &mut Body, buffer: &mut [u8]) -> Result<usize, Ended> {
        loop {
            self.look()?;
            let read = body.read_within(buffer, TURN);
            self.moves.fetch_add(1, Ordering::Relaxed);
            match read {
                Ok(Some(count)) => return Ok(count),
                Ok(None) => {}
                Err(error) => return Err(Ended::Broken(error.to_string())),
            }
        }
    }

    fn write(&self, mut socket: &Socket, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            match socket.write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.moves.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if is_turn(&error) => self.look()?,
                Err(_) => return Err(Ended::Stopped),
            }
        }
        Ok(())
    }

    fn look(&self) -> Result<(), Ended> {
        if self.stop.load(Ordering::Acquire) { Err(Ended::Stopped) } else { Ok(()) }
    }
}
