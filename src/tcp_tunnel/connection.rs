//! One connection on this side: its socket as a body to be sent, and a body to be written to it.
//!
//! The two directions have a thread each and end one after the other: an end is carried on as a
//! half-close. Where one fails, the other is of no use, and the socket is reset, so that its other end
//! cannot take what came for all there was.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use socket2::{Socket, TcpKeepalive};

use super::LOOK;
use crate::event::pipe::Caller;
use crate::event::{Body, Sink, Source};

/// Bytes that are taken from a body at once.
const PIECE: usize = 64 * 1024;
/// A peer that is gone without a word is noticed after so much silence, and some more.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection that is being carried.
pub(crate) struct Connection {
    socket: Arc<Socket>,
    /// It stands at both ends: from now on each direction needs the other.
    stands: AtomicBool,
    /// One direction has failed.
    broken: AtomicBool,
    /// Disconnects when nobody reads from the socket any more. The sender's end is the reader's.
    sent: (Mutex<Option<Sender<()>>>, Receiver<()>),
}

impl Connection {
    /// Takes a connected socket.
    pub fn new(socket: Arc<Socket>) -> io::Result<Arc<Self>> {
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(LOOK))?;
        // A Unix socket knows neither.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        let (sending, sent) = bounded(0);
        Ok(Arc::new(Self {
            socket,
            stands: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            sent: (Mutex::new(Some(sending)), sent),
        }))
    }

    /// What the socket gives, after the bytes that were read from it before; to be had once.
    pub fn body(self: &Arc<Self>, first: Vec<u8>) -> Body {
        let sending = self.sent.0.lock().take();
        let connection = Arc::clone(self);
        Body::from_source(Sending { connection, first, ended: false, _sending: sending }, None)
    }

    /// Notes that both ends stand.
    pub fn stand(&self) {
        self.stands.store(true, Ordering::Release);
    }

    /// Writes a body to the socket until its end, and ends that direction with it.
    pub fn write_all(&self, body: &mut Body) -> io::Result<()> {
        self.stand();
        // The pipe's reader writes what the socket takes at once, which saves waking this thread.
        body.pass_to(Arc::new(Passing(Arc::clone(&self.socket))));
        let copied = self.copy(body);
        match copied {
            Ok(()) => {
                // Where the other side has gone meanwhile, there is nothing to end.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            Err(_) => self.reset(),
        }
        copied
    }

    fn copy(&self, body: &mut Body) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            match body.read_within(&mut buffer, LOOK)? {
                Some(0) => return Ok(()),
                Some(count) => self.write(&buffer[..count])?,
                None => self.check()?,
            }
        }
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&*self.socket).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_pause(&error) => self.check()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the other direction has ended, too: at the latest with the pipe.
    pub fn wait_sent(&self) {
        // Nothing is ever sent: this is the end of the body's source.
        let _ = self.sent.1.recv();
    }

    /// Gives the connection up: whoever is at its other end sees a reset, not an end.
    pub fn reset(&self) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            // A Unix socket has no reset.
            let _ = self.socket.set_linger(Some(Duration::ZERO));
            // Wakes the thread of the other direction; the close that resets follows when both let go.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.broken.load(Ordering::Acquire) {
            return Err(io::Error::new(
                ErrorKind::ConnectionReset,
                "the other direction has failed",
            ));
        }
        Ok(())
    }
}

impl Caller for Connection {
    fn is_gone(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

/// A socket that takes what it can at once.
struct Passing(Arc<Socket>);

impl Sink for Passing {
    fn take_now(&self, bytes: &[u8]) -> usize {
        self.0.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).unwrap_or(0)
    }
}

/// What a socket gives, as a body.
struct Sending {
    connection: Arc<Connection>,
    first: Vec<u8>,
    ended: bool,
    _sending: Option<Sender<()>>,
}

impl Source for Sending {
    fn read_within(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        if !self.first.is_empty() {
            let count = buffer.len().min(self.first.len());
            buffer[..count].copy_from_slice(&self.first[..count]);
            self.first.drain(..count);
            return Ok(Some(count));
        }
        // The socket's own timeout is as long as any that is asked for.
        match (&*self.connection.socket).read(buffer) {
            Ok(count) => {
                // A reset of our own reads as an end, too.
                self.connection.check()?;
                self.ended = count == 0;
                Ok(Some(count))
            }
            Err(error) if is_pause(&error) => self.connection.check().map(|()| None),
            Err(error) => Err(error),
        }
    }
}

/// Whoever does not want the rest has gone, or found it broken.
impl Drop for Sending {
    fn drop(&mut self) {
        if !self.ended && self.connection.stands.load(Ordering::Acquire) {
            self.connection.reset();
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
