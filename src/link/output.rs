//! The way out: a queue of messages, and the line (TLS, then socket) that one thread writes at a
//! time.
//!
//! Under load the writer thread takes whatever has gathered and sends it with one socket write. When
//! nothing else is in flight the sender writes for itself, which saves waking the writer; it never
//! waits for the socket, and leaves to the writer what the socket does not take at once.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::SockRef;

use super::tls::{RECORD, Tls};
use super::{lock, patience};

/// A peer that takes nothing for this long is given up; a write that had begun doubles it, because the
/// system counts for each call.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most messages that wait to be written.
const MAX_MESSAGES: usize = 8192;
/// Most answers to heartbeats that wait to be written; a peer that reads none of them floods.
const MAX_CONTROL: usize = 64;
/// How long the writer sleeps while nobody wakes it.
const LONG: Duration = Duration::from_secs(3600);
/// A send that does not wait, and does not raise SIGPIPE.
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// Ciphertext that is gathered for one socket write.
const BATCH: usize = 64 * 1024;

/// A message on its way out.
pub struct Outgoing {
    /// The message, whole with its header.
    pub bytes: Vec<u8>,
    /// The request's id where it is one, to note that it was written.
    pub request: Option<u32>,
}

/// Told right before a request is written. Answers whether somebody still waits for it; if not,
/// it is left out.
pub trait Written {
    /// Notes that the request of this id may reach the peer from now on.
    fn written(&self, request: u32) -> bool;
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Too much waits already.
    Full,
    /// The link is closed.
    Closed,
}

/// The queue and the line of one link.
pub struct Output {
    /// Guards what waits to be written. Held for moments only, never while waiting for the line.
    queue: Mutex<Queue>,
    /// Wakes the writer: something was queued, or the queue was closed. One pending wake-up is
    /// enough.
    wake: Sender<()>,
    woken: Receiver<()>,
    /// Guards the socket's writing side and what TLS has given for it, so that records keep their
    /// order. Whoever may block on the socket is the writer; others only try for this lock.
    line: Mutex<Line>,
    max_bytes: usize,
}

#[derive(Default)]
struct Queue {
    /// Answers to heartbeats go first.
    control: VecDeque<Outgoing>,
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// TLS, or a sender that could not write all, left something for the writer.
    flush: bool,
    closed: bool,
    /// The message before the end, from when it is closed.
    goodbye: Option<Vec<u8>>,
}

struct Line {
    socket: TcpStream,
    /// Ciphertext in the order of its records that the socket has not taken.
    unsent: Vec<u8>,
    /// Plaintext of several messages for one record.
    record: Vec<u8>,
}

impl Output {
    /// The way out through this socket. At most `max_bytes` of messages wait.
    pub fn new(socket: TcpStream, max_bytes: usize) -> io::Result<Self> {
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let (wake, woken) = bounded(1);
        Ok(Self {
            queue: Mutex::default(),
            wake,
            woken,
            line: Mutex::new(Line { socket, unsent: Vec::new(), record: Vec::new() }),
            max_bytes,
        })
    }

    /// Sends a message; `at_once` writes it from this thread where the line is free and quiet.
    pub fn send(
        &self,
        message: Outgoing,
        at_once: bool,
        tls: &Tls,
        written: &impl Written,
    ) -> Result<(), SendError> {
        if at_once && message.bytes.len() <= RECORD {
            match self.line.try_lock() {
                Ok(mut line) if line.unsent.is_empty() && self.is_quiet()? => {
                    return self.write_at_once(&mut line, &message, tls, written);
                }
                Ok(_) | Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => {}
            }
        }
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(SendError::Closed);
        }
        let bytes = queue.bytes + message.bytes.len();
        // One message is always taken, however long: its own limit is another.
        if queue.messages.len() >= MAX_MESSAGES || (bytes > self.max_bytes && queue.bytes > 0) {
            return Err(SendError::Full);
        }
        queue.bytes = bytes;
        queue.messages.push_back(message);
        drop(queue);
        self.wake_writer();
        Ok(())
    }

    /// Queues the answer to a heartbeat, before all else.
    pub fn send_control(&self, bytes: Vec<u8>) -> Result<(), SendError> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(SendError::Closed);
        }
        if queue.control.len() >= MAX_CONTROL {
            return Err(SendError::Full);
        }
        queue.bytes += bytes.len();
        queue.control.push_back(Outgoing { bytes, request: None });
        drop(queue);
        self.wake_writer();
        Ok(())
    }

    /// Has the writer send what TLS wants to send of its own.
    pub fn request_flush(&self) {
        lock(&self.queue).flush = true;
        self.wake_writer();
    }

    /// Takes nothing more; what waits is dropped, and the writer says `goodbye` and ends.
    pub fn close(&self, goodbye: Option<Vec<u8>>) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.goodbye = goodbye;
        queue.control.clear();
        queue.messages.clear();
        queue.bytes = 0;
        drop(queue);
        self.wake_writer();
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        let queue = lock(&self.queue);
        queue.bytes == 0 && !queue.flush
    }

    fn is_quiet(&self) -> Result<bool, SendError> {
        let queue = lock(&self.queue);
        if queue.closed {
            return Err(SendError::Closed);
        }
        Ok(queue.bytes == 0)
    }

    fn write_at_once(
        &self,
        line: &mut Line,
        message: &Outgoing,
        tls: &Tls,
        written: &impl Written,
    ) -> Result<(), SendError> {
        if message.request.is_some_and(|id| !written.written(id)) {
            return Ok(());
        }
        // A failure here is the socket's or TLS's end. The writer meets it too and reports it.
        if tls.seal(&message.bytes, &mut line.unsent).is_err() || !line.send_without_waiting() {
            self.request_flush();
        }
        Ok(())
    }

    /// The writer thread: writes until the queue is closed, then ends TLS properly. `grouped` says
    /// whether several messages may share a TLS record.
    pub fn write_all(
        &self,
        tls: &Tls,
        written: &impl Written,
        grouped: impl Fn() -> bool,
    ) -> Result<(), WriteError> {
        let mut batch = Vec::new();
        while self.wait_for_work() {
            let mut line = lock(&self.line);
            self.take_batch(&mut batch);
            let grouped = grouped();
            for message in batch.drain(..) {
                if message.request.is_none_or(|id| written.written(id)) {
                    line.add(&message.bytes, grouped, tls)?;
                }
            }
            line.seal_record(tls)?;
            tls.flush(&mut line.unsent)?;
            line.send_all()?;
        }
        let mut line = lock(&self.line);
        if let Some(goodbye) = lock(&self.queue).goodbye.take() {
            tls.seal(&goodbye, &mut line.unsent)?;
        }
        tls.close(&mut line.unsent)?;
        line.send_without_waiting();
        // The peer may have closed already, which is no error.
        let _ = line.socket.shutdown(Shutdown::Write);
        Ok(())
    }

    fn wake_writer(&self) {
        // Full: it is about to look anyway.
        let _ = self.wake.try_send(());
    }

    /// Waits until there is something to write; false once closed.
    fn wait_for_work(&self) -> bool {
        loop {
            {
                let queue = lock(&self.queue);
                if queue.closed {
                    return false;
                }
                if queue.bytes > 0 || queue.flush {
                    return true;
                }
            }
            // Closing the link wakes this; the time is only a bound.
            let _ = patience::receive(&self.woken, LONG, patience::CROWD);
        }
    }

    /// Takes messages for about one [`BATCH`], at least one if there is any.
    fn take_batch(&self, batch: &mut Vec<Outgoing>) {
        let mut queue = lock(&self.queue);
        queue.flush = false;
        let mut taken = 0;
        while taken < BATCH {
            let Some(message) = queue.control.pop_front().or_else(|| queue.messages.pop_front())
            else {
                break;
            };
            taken += message.bytes.len();
            batch.push(message);
        }
        queue.bytes -= taken;
    }
}

impl Line {
    /// Adds a message to what is to be written, and writes where much has gathered.
    fn add(&mut self, message: &[u8], grouped: bool, tls: &Tls) -> Result<(), WriteError> {
        if !grouped || self.record.len() + message.len() > RECORD {
            self.seal_record(tls)?;
        }
        if message.len() < RECORD {
            self.record.extend_from_slice(message);
            return Ok(());
        }
        for part in message.chunks(RECORD) {
            tls.seal(part, &mut self.unsent)?;
            if self.unsent.len() >= BATCH {
                self.send_all()?;
            }
        }
        Ok(())
    }

    fn seal_record(&mut self, tls: &Tls) -> Result<(), WriteError> {
        if !self.record.is_empty() {
            tls.seal(&self.record, &mut self.unsent)?;
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
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.clear();
        Ok(())
    }

    /// Writes what the socket takes at once. Answers whether that was all.
    fn send_without_waiting(&mut self) -> bool {
        let sent = SockRef::from(&self.socket).send_with_flags(&self.unsent, FLAGS);
        let sent = sent.unwrap_or(0);
        self.unsent.drain(..sent);
        self.unsent.is_empty()
    }
}

/// Why the writer ended before it was told to.
#[derive(Debug)]
pub enum WriteError {
    /// The peer took nothing for [`WRITE_TIMEOUT`].
    Stalled,
    /// The socket failed.
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

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled => write!(f, "it took nothing for {} s", WRITE_TIMEOUT.as_secs()),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}
