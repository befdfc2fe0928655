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

use crate::event::pipe::Caller;
use crate::event::{Body, Sink, Source};

/// How often a thread that waits for a socket looks whether the other direction has failed.
const FAILURE_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes that are taken from a body at once.
const PIECE: usize = 64 * 1024;
/// A peer that vanished is noticed after so much silence, and some more.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection that is carried over the pipe.
pub(crate) struct TunnelConnection {
    socket: Arc<Socket>,
    /// It is established at both ends: from now on each direction needs the other.
    established: AtomicBool,
    /// One direction has failed.
    failed: AtomicBool,
    /// Disconnects when nobody reads from the socket any longer. The sender's end is the reader's.
    sent: (Mutex<Option<Sender<()>>>, Receiver<()>),
}

impl TunnelConnection {
    /// Takes a connected socket.
    pub fn new(socket: Arc<Socket>) -> io::Result<Arc<Self>> {
        socket.set_read_timeout(Some(FAILURE_POLL_INTERVAL))?;
        socket.set_write_timeout(Some(FAILURE_POLL_INTERVAL))?;
        // A Unix socket knows neither.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        let (sending, sent) = bounded(0);
        Ok(Arc::new(Self {
            socket,
            established: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            sent: (Mutex::new(Some(sending)), sent),
        }))
    }

    /// What the socket gives, after the bytes that were read from it before; to be had once.
    pub fn body(self: &Arc<Self>, first: Vec<u8>) -> Body {
        let sending = self.sent.0.lock().take();
        let connection = Arc::clone(self);
        Body::from_source(SocketSource { connection, first, ended: false, _sending: sending }, None)
    }

    /// Notes that it is established at both ends.
    pub fn set_established(&self) {
        self.established.store(true, Ordering::Release);
    }

    /// Writes a body to the socket until its end, and ends that direction with it.
    pub fn write_all(&self, body: &mut Body) -> io::Result<()> {
        self.set_established();
        // The pipe's reader writes what the socket takes at once, which saves waking this thread.
        body.pass_to(Arc::new(SocketSink(Arc::clone(&self.socket))));
        let copied = self.copy(body);
        match copied {
            Ok(()) => {
                // Fails where the other side has closed meanwhile: then there is nothing to end.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            Err(_) => self.reset(),
        }
        copied
    }

    fn copy(&self, body: &mut Body) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            match body.read_within(&mut buffer, FAILURE_POLL_INTERVAL)? {
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
                Err(error) if is_timeout(&error) => self.check()?,
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

    /// Gives the connection up: the other end sees a reset, not an end.
    pub fn reset(&self) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            // A Unix socket has no reset.
            let _ = self.socket.set_linger(Some(Duration::ZERO));
            // Wakes the thread of the other direction; the close that resets follows when both let go.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::new(
                ErrorKind::ConnectionReset,
                "the other direction has failed",
            ));
        }
        Ok(())
    }
}

impl Caller for TunnelConnection {
    fn is_gone(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// A socket that takes what it can at once.
struct SocketSink(Arc<Socket>);

impl Sink for SocketSink {
    fn take_now(&self, bytes: &[u8]) -> usize {
        self.0.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).unwrap_or(0)
    }
}

/// What a socket gives, as a body.
struct SocketSource {
    connection: Arc<TunnelConnection>,
    first: Vec<u8>,
    ended: bool,
    _sending: Option<Sender<()>>,
}

impl Source for SocketSource {
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
            Err(error) if is_timeout(&error) => self.connection.check().map(|()| None),
            Err(error) => Err(error),
        }
    }
}

/// Dropped before its end, the other direction has failed, or its reader needs no more.
impl Drop for SocketSource {
    fn drop(&mut self) {
        if !self.ended && self.connection.established.load(Ordering::Acquire) {
            self.connection.reset();
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
