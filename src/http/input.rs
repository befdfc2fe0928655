//! What a connection reads: one buffer of bounded size, filled from the socket within deadlines.
//!
//! In scope: buffering, timeouts. Not in scope: what the bytes mean.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::http::head::MAX_BYTES;

/// The buffer's size until a longer head comes.
const FIRST_BYTES: usize = 4 * 1024;

/// The reading side of a connection.
pub(super) struct Input {
    source: Source,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// Nothing read yet, and no memory taken.
    pub fn new(socket: Arc<Socket>) -> Self {
        let source = Source { socket, timeout: None };
        Self { source, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// What it reads from.
    pub fn socket(&self) -> &Socket {
        &self.source.socket
    }

    /// The bytes that were read and not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Drops the first `count` of the buffered bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Reads once, more into the buffer, for at most `timeout` and until `deadline`. Returns how
    /// many bytes came; none is the end. Where the buffer is full at [`MAX_BYTES`], it is an error:
    /// a head that long was refused before, and everything else is consumed.
    pub fn fill(&mut self, timeout: Duration, deadline: Option<Instant>) -> io::Result<usize> {
        self.make_room()?;
        let read = self.source.read(&mut self.buffer[self.end..], timeout, deadline)?;
        self.end += read;
        Ok(read)
    }

    /// Appends `count` bytes to `body`, or fewer where the caller sends no more: first the buffered
    /// ones, then from the socket without another copy. Each read waits for at most `timeout`, all
    /// together until `deadline`.
    pub fn read_into(
        &mut self,
        body: &mut Vec<u8>,
        count: usize,
        timeout: Duration,
        deadline: Instant,
    ) -> io::Result<()> {
        let ready = count.min(self.end - self.start);
        body.extend_from_slice(&self.buffer[self.start..self.start + ready]);
        self.start += ready;
        if ready == count {
            return Ok(());
        }
        let rest = (count - ready) as u64;
        Timed { source: &mut self.source, timeout, deadline }
            .take(rest)
            .read_to_end(body)
            .map(|_| ())
    }

    /// Reads once into `into`: buffered bytes, or where there are none from the socket, without
    /// another copy. Waits for at most `timeout`. No bytes are the end.
    pub fn read(&mut self, into: &mut [u8], timeout: Duration) -> io::Result<usize> {
        let ready = into.len().min(self.end - self.start);
        if ready == 0 {
            return self.source.read(into, timeout, None);
        }
        into[..ready].copy_from_slice(&self.buffer[self.start..self.start + ready]);
        self.start += ready;
        Ok(ready)
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.is_empty() {
                self.buffer.resize(FIRST_BYTES, 0);
            }
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else if self.buffer.len() < MAX_BYTES {
                self.buffer.resize(MAX_BYTES, 0);
            } else {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
        Ok(())
    }
}

/// The socket, and its timeout as it is set: setting it costs a system call.
struct Source {
    socket: Arc<Socket>,
    timeout: Option<Duration>,
}

impl Source {
    fn read(
        &mut self,
        into: &mut [u8],
        timeout: Duration,
        deadline: Option<Instant>,
    ) -> io::Result<usize> {
        loop {
            let timeout = match deadline {
                Some(deadline) => timeout.min(deadline.saturating_duration_since(Instant::now())),
                None => timeout,
            };
            // Below a microsecond the socket would take it for "no timeout".
            if timeout < Duration::from_micros(1) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.timeout != Some(timeout) {
                self.socket.set_read_timeout(Some(timeout))?;
                self.timeout = Some(timeout);
            }
            match (&*self.socket).read(into) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Reads with the input's timeouts, for `read_to_end`.
struct Timed<'a> {
    source: &'a mut Source,
    timeout: Duration,
    deadline: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.source.read(into, self.timeout, Some(self.deadline))
    }
}
