//! The reading side of a connection: one buffer of bounded size, filled from a blocking socket
//! within time limits.
//!
//! In scope: buffering, time limits, bodies read through a [`BodyDecoder`]. Not in scope: heads,
//! and writing to the socket.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use thiserror::Error;

use super::body::{BodyCut, BodyDecoder};
use super::chunked::ChunkError;

/// The buffered input of a connection.
pub(crate) struct HttpInput {
    socket: Arc<Socket>,
    /// The read timeout currently set on the socket; setting it costs a system call.
    timeout: Option<Duration>,
    first_bytes: usize,
    max_bytes: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl HttpInput {
    /// An empty input, with no memory allocated. The buffer has `first_bytes`, and grows to
    /// `max_bytes` for a longer head.
    pub fn new(socket: Arc<Socket>, first_bytes: usize, max_bytes: usize) -> Self {
        Self { socket, timeout: None, first_bytes, max_bytes, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// The underlying socket.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// The bytes that were read and not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Drops the first `count` buffered bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Reads once into the buffer, waiting at most `timeout`. Returns the number of bytes read, 0
    /// at the end, or `None` on timeout. A full buffer is an error: a head of that length was
    /// refused before, and everything else is consumed.
    pub fn fill(&mut self, timeout: Duration) -> io::Result<Option<usize>> {
        self.make_room()?;
        let Self { socket, timeout: set, buffer, end, .. } = self;
        let count = read(socket, set, &mut buffer[*end..], timeout)?;
        *end += count.unwrap_or(0);
        Ok(count)
    }

    /// Reads once into `into`: from the buffer, or directly from the socket if the buffer is empty.
    /// Otherwise like [`HttpInput::fill`].
    pub fn read(&mut self, into: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let ready = into.len().min(self.end - self.start);
        if ready == 0 {
            return read(&self.socket, &mut self.timeout, into, timeout);
        }
        into[..ready].copy_from_slice(&self.buffer[self.start..self.start + ready]);
        self.start += ready;
        Ok(Some(ready))
    }

    /// Reads part of a body into `into`. Returns 0 at the end of the body, or `None` on timeout.
    pub fn read_body(
        &mut self,
        decoder: &mut BodyDecoder,
        into: &mut [u8],
        timeout: Duration,
    ) -> Result<Option<usize>, BodyError> {
        let started = Instant::now();
        loop {
            let (used, count) = decoder.feed(self.buffered(), into)?;
            self.consume(used);
            if count > 0 || decoder.is_done() {
                return Ok(Some(count));
            }
            let ahead = decoder.data_ahead();
            let read = if ahead > 0 {
                // Bypass the buffer, which is empty and small.
                let most = usize::try_from(ahead).unwrap_or(usize::MAX).min(into.len());
                self.read(&mut into[..most], timeout)?
            } else {
                self.fill(timeout)?
            };
            match read {
                None => return Ok(None),
                Some(0) => return decoder.end().map(|()| Some(0)).map_err(BodyError::from),
                Some(count) if ahead > 0 => {
                    decoder.skip_data(count);
                    return Ok(Some(count));
                }
                // This read yielded only framing, and the number of such reads is unbounded. Using
                // the same timeout for each saves a system call.
                Some(_) if started.elapsed() >= timeout && self.buffered().is_empty() => {
                    return Ok(None);
                }
                Some(_) => {}
            }
        }
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.is_empty() {
                self.buffer.resize(self.first_bytes, 0);
            }
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else if self.buffer.len() < self.max_bytes {
                self.buffer.resize(self.max_bytes, 0);
            } else {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
        Ok(())
    }
}

/// Why a body could not be read completely.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Cut(#[from] BodyCut),
    #[error(transparent)]
    Coding(#[from] ChunkError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BodyError {
    /// The error kind, for a body that is read as a stream.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Cut(_) => io::ErrorKind::UnexpectedEof,
            Self::Coding(_) => io::ErrorKind::InvalidData,
            Self::Io(error) => error.kind(),
        }
    }
}

fn read(
    mut socket: &Socket,
    set: &mut Option<Duration>,
    into: &mut [u8],
    timeout: Duration,
) -> io::Result<Option<usize>> {
    // The socket treats less than a microsecond as no timeout.
    if timeout < Duration::from_micros(1) {
        return Ok(None);
    }
    if *set != Some(timeout) {
        socket.set_read_timeout(Some(timeout))?;
        *set = Some(timeout);
    }
    loop {
        match socket.read(into) {
            Ok(count) => return Ok(Some(count)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if is_timeout(&e) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Whether a socket call timed out.
pub(crate) fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
