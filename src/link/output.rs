//! The way out: a queue of messages, and the line (TLS, then socket) that one thread writes at a
//! time.
//!
//! Under load the writer thread takes whatever has gathered and sends it with one socket write. When
//! nothing else is in flight the sender writes for itself, which saves waking the writer; it never
//! waits for the socket, and leaves to the writer what the socket does not take at once.
//!
//! Bodies in pieces go after all else, a chunk from each in turn.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::SockRef;

use super::streams::{Key, Outbound};
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
/// Most ciphertext that the system takes before it has sent what it has: what is in there goes before
/// any event that comes after it.
const UNSENT: u32 = 64 * 1024;
/// Ciphertext that is gathered for one socket write.
const BATCH: usize = 64 * 1024;

/// A message on its way out.
pub struct Outgoing {
    /// The message, whole with its header.
    pub bytes: Vec<u8>,
    /// The request's id where it is one, to note that it was written.
    pub request: Option<u32>,
    /// Whether its body follows in pieces: those are meaningless without it.
    pub followed: bool,
}

impl Outgoing {
    /// A message that is not a request.
    pub const fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, request: None, followed: false }
    }

    /// Notes that it is written now. False where it is a request that nobody waits for any more, so
    /// that it can be left out.
    fn goes(&self, written: &impl Written) -> bool {
        self.request.is_none_or(|id| written.written(id)) || self.followed
    }
}

/// Told right before a request is written. Answers whether somebody still waits for it.
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
    /// The frames of bodies in pieces, by body.
    bulk: HashMap<Key, Lane>,
    /// The bodies that have something to send, in turn.
    turns: VecDeque<Key>,
    /// TLS, or a sender that could not write all, left something for the writer.
    flush: bool,
    closed: bool,
    /// The message before the end, from when it is closed.
    goodbye: Option<Vec<u8>>,
}

/// What waits of one body in pieces.
struct Lane {
    frames: VecDeque<Vec<u8>>,
    body: Arc<Outbound>,
}

/// What the writer has taken to write next.
#[derive(Default)]
struct Batch {
    messages: Vec<Outgoing>,
    bulk: Vec<(Vec<u8>, Arc<Outbound>)>,
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
        // Where the system does not know this, a small event may wait longer behind a large body.
        let _ = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT);
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

    /// Sends a small frame that nobody waits for, at once where that is possible.
    pub fn send_small(
        &self,
        bytes: Vec<u8>,
        tls: &Tls,
        written: &impl Written,
    ) -> Result<(), SendError> {
        self.send(Outgoing::plain(bytes), true, tls, written)
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
        queue.control.push_back(Outgoing::plain(bytes));
        drop(queue);
        self.wake_writer();
        Ok(())
    }

    /// Sends a frame of a body in pieces, from this thread where the line is free and quiet. How many
    /// wait otherwise is the producer's to bound.
    pub fn send_bulk(&self, body: &Arc<Outbound>, bytes: Vec<u8>, tls: &Tls) {
        match self.line.try_lock() {
            Ok(mut line) if line.unsent.is_empty() && self.is_quiet() == Ok(true) => {
                // A failure here is the socket's or TLS's end. The writer meets it too and reports it.
                if tls.seal(&bytes, &mut line.unsent).is_err() || !line.send_without_waiting() {
                    self.request_flush();
                }
                drop(line);
                body.give_back(bytes);
                body.written();
                return;
            }
            Ok(_) | Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => {}
        }
        let mut queue = lock(&self.queue);
        if queue.closed {
            return;
        }
        let lane = queue
            .bulk
            .entry(body.key)
            .or_insert_with(|| Lane { frames: VecDeque::new(), body: Arc::clone(body) });
        lane.frames.push_back(bytes);
        if lane.frames.len() == 1 {
            queue.turns.push_back(body.key);
        }
        drop(queue);
        self.wake_writer();
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
        queue.bulk.clear();
        queue.turns.clear();
        drop(queue);
        self.wake_writer();
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        let queue = lock(&self.queue);
        queue.is_quiet() && !queue.flush
    }

    fn is_quiet(&self) -> Result<bool, SendError> {
        let queue = lock(&self.queue);
        if queue.closed {
            return Err(SendError::Closed);
        }
        Ok(queue.is_quiet())
    }

    fn write_at_once(
        &self,
        line: &mut Line,
        message: &Outgoing,
        tls: &Tls,
        written: &impl Written,
    ) -> Result<(), SendError> {
        if !message.goes(written) {
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
        let mut batch = Batch::default();
        while self.wait_for_work() {
            let mut line = lock(&self.line);
            self.take_batch(&mut batch);
            let grouped = grouped();
            for message in batch.messages.drain(..) {
                if message.goes(written) {
                    line.add(&message.bytes, grouped, tls)?;
                }
            }
            for (frame, body) in batch.bulk.drain(..) {
                line.add(&frame, grouped, tls)?;
                body.give_back(frame);
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
                if !queue.is_quiet() || queue.flush {
                    return true;
                }
            }
            // Closing the link wakes this; the time is only a bound.
            let _ = patience::receive(&self.woken, LONG, patience::CROWD);
        }
    }

    /// Takes messages for about one [`BATCH`], at least one if there is any, and fills it up with
    /// pieces of bodies.
    fn take_batch(&self, batch: &mut Batch) {
        {
            let mut queue = lock(&self.queue);
            queue.flush = false;
            let mut taken = 0;
            while taken < BATCH {
                let next = queue.control.pop_front().or_else(|| queue.messages.pop_front());
                let Some(message) = next else { break };
                taken += message.bytes.len();
                batch.messages.push(message);
            }
            queue.bytes -= taken;
            while taken < BATCH {
                let Some((frame, body)) = queue.take_bulk() else { break };
                taken += frame.len();
                batch.bulk.push((frame, body));
            }
        }
        for (_, body) in &batch.bulk {
            body.written();
        }
    }
}

impl Queue {
    fn is_quiet(&self) -> bool {
        self.bytes == 0 && self.turns.is_empty()
    }

    /// Takes a frame from the body whose turn it is.
    fn take_bulk(&mut self) -> Option<(Vec<u8>, Arc<Outbound>)> {
        let key = self.turns.pop_front()?;
        let lane = self.bulk.get_mut(&key)?;
        let frame = lane.frames.pop_front()?;
        let body = Arc::clone(&lane.body);
        if lane.frames.is_empty() {
            self.bulk.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        Some((frame, body))
    }
}

impl Line {
    /// Adds a message to what is to be written, and writes where much has gathered.
    fn add(&mut self, message: &[u8], grouped: bool, tls: &Tls) -> Result<(), WriteError> {
        if !grouped || self.record.len() + message.len() > RECORD {
            self.seal_record(tls)?;
        }
        // A chunk of a body fills a record by itself.
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
