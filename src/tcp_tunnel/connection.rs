//! One tunnelled connection on this side: its socket as the source of one body and the destination
//! of another.
//!
//! Each direction has its own thread, and they end independently: the end of one is passed on as a
//! half-close. If one direction fails, the socket is reset, so that its other end cannot mistake
//! truncated data for complete data. The kernel does the same if this process ends: as long as a
//! direction goes on, closing the socket resets it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use socket2::{Socket, TcpKeepalive};

use crate::event::pipe::Caller;
use crate::event::{Body, Sink, Source};
use crate::net::reset::set_reset_on_close;

/// How often a thread that waits for a socket checks whether the other direction has failed.
const FAILURE_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes read from a body at once.
const PIECE: usize = 64 * 1024;
/// Idle time before the first keepalive probe, which detects a vanished peer.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A tunnelled connection.
pub(crate) struct TunnelConnection {
    socket: Arc<Socket>,
    /// Established at both ends: from now on each direction depends on the other.
    established: AtomicBool,
    /// One direction has failed.
    failed: AtomicBool,
    /// How many directions have not ended in order.
    open_directions: AtomicU8,
    /// Disconnects when the socket is no longer read. The reader owns the sender.
    sent: (Mutex<Option<Sender<()>>>, Receiver<()>),
}

impl TunnelConnection {
    /// Takes over a connected socket.
    pub fn new(socket: Arc<Socket>) -> io::Result<Arc<Self>> {
        socket.set_read_timeout(Some(FAILURE_POLL_INTERVAL))?;
        socket.set_write_timeout(Some(FAILURE_POLL_INTERVAL))?;
        // Ignored: a Unix socket supports neither option.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        let (sending, sent) = bounded(0);
        Ok(Arc::new(Self {
            socket,
            established: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            open_directions: AtomicU8::new(2),
            sent: (Mutex::new(Some(sending)), sent),
        }))
    }

    /// The data read from the socket, preceded by `first`, which was read earlier. To be called
    /// once.
    pub fn body(self: &Arc<Self>, first: Vec<u8>) -> Body {
        let sending = self.sent.0.lock().take();
        let connection = Arc::clone(self);
        Body::from_source(SocketSource { connection, first, ended: false, _sending: sending }, None)
    }

    /// Marks the connection as established at both ends.
    pub fn set_established(&self) {
        if !self.established.swap(true, Ordering::AcqRel) {
            self.reset_on_close();
        }
    }

    /// From now on its end is a reset, however this process ends, until both directions have ended.
    pub fn reset_on_close(&self) {
        set_reset_on_close(&*self.socket, true);
    }

    /// One direction has ended in order.
    fn end_direction(&self) {
        if self.open_directions.fetch_sub(1, Ordering::AcqRel) == 1 {
            // What is still being sent arrives, and then the end.
            set_reset_on_close(&*self.socket, false);
        }
    }

    /// Writes a body to the socket, then shuts down that direction.
    pub fn write_all(&self, body: &mut Body) -> io::Result<()> {
        self.set_established();
        // The pipe's reader writes what the socket accepts at once, which saves waking this thread.
        body.pass_to(Arc::new(SocketSink(Arc::clone(&self.socket))));
        let copied = self.copy(body);
        match copied {
            Ok(()) => {
                // Fails if the other side has closed already; then there is nothing to shut down.
                let _ = self.socket.shutdown(Shutdown::Write);
                self.end_direction();
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

    /// Waits until the other direction has ended, which it does at the latest when the pipe closes.
    pub fn wait_sent(&self) {
        // Nothing is ever sent: the channel disconnects when the body's source is dropped.
        let _ = self.sent.1.recv();
    }

    /// Aborts the connection: the other end sees a reset, not an orderly close.
    pub fn reset(&self) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.reset_on_close();
            // Wakes the thread of the other direction; the socket is reset when both threads drop
            // it.
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

/// Writes what the socket accepts at once.
struct SocketSink(Arc<Socket>);

impl Sink for SocketSink {
    fn take_now(&self, bytes: &[u8]) -> usize {
        self.0.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).unwrap_or(0)
    }
}

/// A socket as the source of a body.
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
        // The socket's own timeout is at least as long as any requested one.
        match (&*self.connection.socket).read(buffer) {
            Ok(count) => {
                // A reset by this side also reads as an end.
                self.connection.check()?;
                if count == 0 && !self.ended {
                    self.ended = true;
                    self.connection.end_direction();
                }
                Ok(Some(count))
            }
            Err(error) if is_timeout(&error) => self.connection.check().map(|()| None),
            Err(error) => Err(error),
        }
    }
}

/// If dropped before its end, the other direction has failed or the receiver wants no more.
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
