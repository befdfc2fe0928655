//! The writing side of a link: TLS, then the socket.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::queue::BATCH;
use crate::link::closing::{FragileGuard, FragileMutex};
use crate::link::tls::{LinkTls, RECORD};

/// A peer that reads nothing for this long is given up. A write that is already partly done can
/// take twice as long, because the timeout applies to each system call.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A non-blocking send that does not raise SIGPIPE.
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// Maximum unsent ciphertext in the kernel: whatever is there is sent before any later event.
const MAX_UNSENT_IN_KERNEL: u32 = 64 * 1024;

/// The writing side of the socket, with pending ciphertext.
pub(super) struct CiphertextWriter {
    socket: TcpStream,
    /// The TLS connection, shared with the reader. Lock order: the writer first, then TLS.
    tls: Arc<FragileMutex<LinkTls>>,
    /// Ciphertext that the socket has not accepted, in record order.
    unsent: Vec<u8>,
    /// Plaintext of several messages, collected into one record.
    record: Vec<u8>,
    /// Bytes accepted by the socket so far.
    sent: Arc<AtomicU64>,
}

impl CiphertextWriter {
    /// A writer for this socket; `sent` counts the bytes that it accepts.
    pub fn new(
        socket: TcpStream,
        tls: Arc<FragileMutex<LinkTls>>,
        sent: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        // Best effort: without this option a small event may wait longer behind a large body.
        let _ = SockRef::from(&socket).set_tcp_notsent_lowat(MAX_UNSENT_IN_KERNEL);
        Ok(Self { socket, tls, unsent: Vec::new(), record: Vec::new(), sent })
    }

    /// Whether the socket has accepted all ciphertext.
    pub fn is_clear(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Writes up to one record without waiting. Returns false if not all of it was sent: the writer
    /// thread sends the rest, and meets and reports any error of the socket or TLS.
    pub fn write_now(&mut self, bytes: &[u8]) -> bool {
        self.seal(bytes).is_ok() && self.send_without_waiting()
    }

    /// Writes the added messages and what TLS itself has to send, waiting for the socket.
    pub fn write_all(&mut self) -> Result<(), WriteError> {
        self.seal_record()?;
        lock(&self.tls)?.flush(&mut self.unsent)?;
        self.send_all()
    }

    /// Sends a last message and closes TLS cleanly, as far as the socket accepts it without
    /// waiting.
    pub fn end(&mut self, goodbye: Option<Vec<u8>>) -> Result<(), WriteError> {
        if let Some(goodbye) = goodbye {
            self.seal(&goodbye)?;
        }
        lock(&self.tls)?.close(&mut self.unsent)?;
        self.send_without_waiting();
        // Ignored: the peer may have closed already.
        let _ = self.socket.shutdown(Shutdown::Write);
        Ok(())
    }

    /// Adds a message, and writes once enough has accumulated.
    pub fn add(&mut self, message: &[u8], grouped: bool) -> Result<(), WriteError> {
        if !grouped || self.record.len() + message.len() > RECORD {
            self.seal_record()?;
        }
        // A chunk of a body fills a record on its own.
        if message.len() < RECORD {
            self.record.extend_from_slice(message);
            return Ok(());
        }
        for part in message.chunks(RECORD) {
            self.seal(part)?;
            if self.unsent.len() >= BATCH {
                self.send_all()?;
            }
        }
        Ok(())
    }

    fn seal(&mut self, plain: &[u8]) -> Result<(), WriteError> {
        Ok(lock(&self.tls)?.seal(plain, &mut self.unsent)?)
    }

    fn seal_record(&mut self) -> Result<(), WriteError> {
        if !self.record.is_empty() {
            lock(&self.tls)?.seal(&self.record, &mut self.unsent)?;
            self.record.clear();
        }
        Ok(())
    }

    /// Writes all ciphertext, waiting for the socket if necessary.
    fn send_all(&mut self) -> Result<(), WriteError> {
        let mut rest = self.unsent.as_slice();
        while !rest.is_empty() {
            match self.socket.write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => {
                    self.sent.fetch_add(count as u64, Ordering::Relaxed);
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.clear();
        Ok(())
    }

    /// Writes what the socket accepts without waiting. Returns whether that was everything.
    fn send_without_waiting(&mut self) -> bool {
        let sent = SockRef::from(&self.socket).send_with_flags(&self.unsent, SEND_FLAGS);
        let sent = sent.unwrap_or(0);
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
        self.unsent.drain(..sent);
        self.unsent.is_empty()
    }
}

/// The TLS connection, unless a panic left it inconsistent; the link is closed in that case.
fn lock(tls: &FragileMutex<LinkTls>) -> io::Result<FragileGuard<'_, LinkTls>> {
    tls.lock().ok_or_else(|| io::Error::other("TLS is broken by a panic"))
}

/// Why the writer stopped before the link was closed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The peer read nothing for [`WRITE_TIMEOUT`].
    #[error("it took nothing for {} s", WRITE_TIMEOUT.as_secs())]
    Stalled,
    /// The socket failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket timeout is either kind, depending on the platform.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Stalled,
            _ => Self::Io(error),
        }
    }
}
