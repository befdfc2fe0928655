//! The way out: a queue of messages, and the line (TLS, then socket) that one thread writes at a
//! time.
//!
//! Under load the writer thread takes whatever has gathered and sends it with one socket write. When
//! nothing else is in flight the sender writes for itself, which saves waking the writer; it never
//! waits for the socket, and leaves to the writer what the socket does not take at once.

mod line;
mod queue;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};

use line::{Line, WriteError};
use queue::{Batch, Queue};
pub use queue::{Outgoing, SendError, Written};

use super::streams::Outbound;
use super::tls::{LinkTls, RECORD};
use super::{lock, patience};

/// How long the writer sleeps while nobody wakes it.
const LONG: Duration = Duration::from_secs(3600);
/// Ciphertext that is gathered for one socket write.
const BATCH: usize = 64 * 1024;

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
    /// Bytes of ciphertext that the socket has taken, as the line counts them.
    sent: Arc<AtomicU64>,
}

impl Output {
    /// The way out through this socket. At most `max_bytes` of messages wait.
    pub fn new(socket: TcpStream, max_bytes: usize) -> io::Result<Self> {
        let (wake, woken) = bounded(1);
        let sent = Arc::new(AtomicU64::new(0));
        let line = Mutex::new(Line::new(socket, Arc::clone(&sent))?);
        Ok(Self { queue: Mutex::default(), wake, woken, line, max_bytes, sent })
    }

    /// Sends a message; `at_once` writes it from this thread where the line is free and quiet.
    pub fn send(
        &self,
        message: Outgoing,
        at_once: bool,
        tls: &LinkTls,
        written: &impl Written,
    ) -> Result<(), SendError> {
        if at_once
            && message.bytes.len() <= RECORD
            && let Some(mut line) = self.free_line()?
        {
            if message.goes(written) && !line.write_now(&message.bytes, tls) {
                self.request_flush();
            }
            return Ok(());
        }
        lock(&self.queue).add(message, self.max_bytes)?;
        self.wake_writer();
        Ok(())
    }

    /// Sends a small frame about a body, at once where that is possible. It is taken however much
    /// waits, and dropped only when the link is closed.
    pub fn send_small(&self, bytes: Vec<u8>, tls: &LinkTls) {
        match self.free_line() {
            Ok(Some(mut line)) => {
                if !line.write_now(&bytes, tls) {
                    self.request_flush();
                }
            }
            Ok(None) => {
                lock(&self.queue).add_small(bytes);
                self.wake_writer();
            }
            Err(_) => {}
        }
    }

    /// Queues the answer to a heartbeat, before all else.
    pub fn send_control(&self, bytes: Vec<u8>) -> Result<(), SendError> {
        lock(&self.queue).add_control(bytes)?;
        self.wake_writer();
        Ok(())
    }

    /// Sends a frame of a body in pieces, from this thread where the line is free and quiet. How many
    /// wait otherwise is the producer's to bound.
    pub fn send_bulk(&self, body: &Arc<Outbound>, frame: Vec<u8>, tls: &LinkTls) {
        if let Ok(Some(mut line)) = self.free_line() {
            if !line.write_now(&frame, tls) {
                self.request_flush();
            }
            drop(line);
            body.give_back(frame);
            body.written();
            return;
        }
        lock(&self.queue).add_bulk(body, frame);
        self.wake_writer();
    }

    /// The line, where nobody has it and nothing waits for it.
    fn free_line(&self) -> Result<Option<MutexGuard<'_, Line>>, SendError> {
        let Some(line) = self.line.try_lock().filter(|line| line.is_clear()) else {
            return Ok(None);
        };
        let queue = lock(&self.queue);
        if queue.closed {
            return Err(SendError::Closed);
        }
        Ok(queue.is_quiet().then_some(line))
    }

    /// Has the writer send what TLS wants to send of its own.
    pub fn request_flush(&self) {
        lock(&self.queue).flush = true;
        self.wake_writer();
    }

    /// Takes nothing more; what waits is dropped, and the writer says `goodbye` and ends.
    pub fn close(&self, goodbye: Option<Vec<u8>>) {
        lock(&self.queue).close(goodbye);
        self.wake_writer();
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        let queue = lock(&self.queue);
        queue.is_quiet() && !queue.flush
    }

    /// Bytes of ciphertext that the socket has taken so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Messages that wait to be written, pieces of bodies left out.
    pub fn waiting(&self) -> usize {
        lock(&self.queue).messages()
    }

    /// The writer thread: writes until the queue is closed, then ends TLS properly. `grouped` says
    /// whether several messages may share a TLS record.
    pub fn write_all(
        &self,
        tls: &LinkTls,
        written: &impl Written,
        grouped: impl Fn() -> bool,
    ) -> Result<(), WriteError> {
        let mut batch = Batch::default();
        while self.wait_for_work() {
            let mut line = lock(&self.line);
            lock(&self.queue).take(&mut batch);
            // Their producers may go on meanwhile.
            batch.bulk.iter().for_each(|(_, body)| body.written());
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
            line.write_all(tls)?;
        }
        let mut line = lock(&self.line);
        let goodbye = lock(&self.queue).goodbye.take();
        line.end(goodbye, tls)
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
}
