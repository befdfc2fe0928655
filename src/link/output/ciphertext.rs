//! The writing side of a link: TLS, then the socket. Whoever has it writes.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::queue::BATCH;
use crate::link::closing::{FragileGuard, FragileMutex};
use crate::link::tls::{LinkTls, RECORD};

/// A peer that takes nothing for this long is given up; a write that has begun doubles it, because the
/// system counts for each call.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A send that does not wait, and does not raise SIGPIPE.
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// Most ciphertext that the system takes before it has sent what it has: what is in there goes before
/// any event that comes after it.
const MAX_UNSENT_IN_KERNEL: u32 = 64 * 1024;

/// The socket's writing side, and what TLS has given for it.
pub(super) struct CiphertextWriter {
    socket: TcpStream,
    /// The TLS connection, which the reader shares. Locked after this writer, never before it.
    tls: Arc<FragileMutex<LinkTls>>,
    /// Ciphertext in the order of its records that the socket has not taken.
    unsent: Vec<u8>,
    /// Plaintext of several messages for one record.
    record: Vec<u8>,
    /// Bytes that the socket has taken so far.
    sent: Arc<AtomicU64>,
}

impl CiphertextWriter {
    /// Over this socket; `sent` counts what it takes.
    pub fn new(
        socket: TcpStream,
        tls: Arc<FragileMutex<LinkTls>>,
        sent: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        // Where the system does not know this, a small event may wait longer behind a large body.
        let _ = SockRef::from(&socket).set_tcp_notsent_lowat(MAX_UNSENT_IN_KERNEL);
        Ok(Self { socket, tls, unsent: Vec::new(), record: Vec::new(), sent })
    }

    /// Whether the socket has taken all there was.
    pub fn is_clear(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Writes what fits into one record, without waiting. False where that did not go out whole: the
    /// rest is the writer's, who meets the socket's or TLS's end, if that is why, and reports it.
    pub fn write_now(&mut self, bytes: &[u8]) -> bool {
        self.seal(bytes).is_ok() && self.send_without_waiting()
    }

    /// Writes what was added and what TLS has to send of its own, waiting for the socket.
    pub fn write_all(&mut self) -> Result<(), WriteError> {
        self.seal_record()?;
        lock(&self.tls)?.flush(&mut self.unsent)?;
        self.send_all()
    }

    /// Ends TLS properly, after a last message, as far as the socket takes it at once.
    pub fn end(&mut self, goodbye: Option<Vec<u8>>) -> Result<(), WriteError> {
        if let Some(goodbye) = goodbye {
            self.seal(&goodbye)?;
        }
        lock(&self.tls)?.close(&mut self.unsent)?;
        self.send_without_waiting();
        // The peer may have closed already, which is no error.
        let _ = self.socket.shutdown(Shutdown::Write);
        Ok(())
    }

    /// Adds a message to what is to be written, and writes where much has gathered.
    pub fn add(&mut self, message: &[u8], grouped: bool) -> Result<(), WriteError> {
        if !grouped || self.record.len() + message.len() > RECORD {
            self.seal_record()?;
        }
        // A chunk of a body fills a record by itself.
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

    /// Writes all ciphertext, waiting for the socket where it must.
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

    /// Writes what the socket takes at once. Answers whether that was all.
    fn send_without_waiting(&mut self) -> bool {
        let sent = SockRef::from(&self.socket).send_with_flags(&self.unsent, SEND_FLAGS);
        let sent = sent.unwrap_or(0);
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
        self.unsent.drain(..sent);
        self.unsent.is_empty()
    }
}

/// The TLS connection, unless a panic has left it half changed; the link has ended then.
fn lock(tls: &FragileMutex<LinkTls>) -> io::Result<FragileGuard<'_, LinkTls>> {
    tls.lock().ok_or_else(|| io::Error::other("TLS is broken by a panic"))
}

/// Why the writer ended before the link did.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The peer took nothing for [`WRITE_TIMEOUT`].
    #[error("it took nothing for {} s", WRITE_TIMEOUT.as_secs())]
    Stalled,
    /// The socket failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket's timeout is either, depending on the system.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Stalled,
            _ => Self::Io(error),
        }
    }
}
