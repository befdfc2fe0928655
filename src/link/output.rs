//! The outgoing direction: a queue of messages, and a writer (TLS, then socket) used by one thread
//! at a time.
//!
//! Under load the writer thread takes everything queued and sends it with one socket write. When
//! nothing else is in flight the sending thread writes directly, which saves waking the writer
//! thread; it never waits for the socket, and leaves what the socket does not accept at once to the
//! writer thread.

mod ciphertext;
mod queue;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use ciphertext::{CiphertextWriter, WriteError};
pub(super) use queue::SendError;
use queue::{Batch, Outgoing, Queue};

use super::closing::{Closing, FragileGuard, FragileMutex};
use super::spin;
use super::streams::OutgoingStream;
use super::tls::{LinkTls, RECORD};

/// How long the writer thread sleeps unless woken.
const WRITER_SLEEP: Duration = Duration::from_secs(3600);

/// The queue and the writer of one link.
pub(super) struct LinkOutput {
    /// Guards the queued messages. Never held across I/O or while waiting for the writer.
    queue: Mutex<Queue>,
    /// Wakes the writer thread when something is queued or the queue is closed. One pending wake-up
    /// is enough.
    wake: Sender<()>,
    woken: Receiver<()>,
    /// Guards the writing side of the socket and pending ciphertext, so that records stay in order.
    /// Only the writer thread may block on the socket; other threads only `try_lock`.
    writer: FragileMutex<CiphertextWriter>,
    max_bytes: usize,
    /// Bytes of ciphertext accepted by the socket, counted by the writer.
    sent: Arc<AtomicU64>,
}

impl LinkOutput {
    /// The outgoing direction of this socket. At most `max_bytes` of messages are queued.
    pub fn new(
        socket: TcpStream,
        tls: Arc<FragileMutex<LinkTls>>,
        max_bytes: usize,
        closing: Arc<Closing>,
    ) -> io::Result<Self> {
        let (wake, woken) = bounded(1);
        let sent = Arc::new(AtomicU64::new(0));
        let writer = CiphertextWriter::new(socket, tls, Arc::clone(&sent))?;
        let writer = FragileMutex::new(writer, closing);
        Ok(Self { queue: Mutex::default(), wake, woken, writer, max_bytes, sent })
    }

    /// Sends a message other than a request. With `at_once` this thread writes it, if the writer is
    /// free and nothing is queued.
    pub fn send(&self, bytes: Vec<u8>, at_once: bool) -> Result<(), SendError> {
        self.send_message(Outgoing::plain(bytes), at_once, |_| true)
    }

    /// Sends the request with this id in the same way; `followed`: its body follows in pieces.
    /// `mark_written` is called right before the write and returns whether the request is still
    /// wanted.
    pub fn send_request(
        &self,
        bytes: Vec<u8>,
        id: u32,
        followed: bool,
        at_once: bool,
        mark_written: impl Fn(u32) -> bool,
    ) -> Result<(), SendError> {
        self.send_message(Outgoing::request(bytes, id, followed), at_once, mark_written)
    }

    fn send_message(
        &self,
        message: Outgoing,
        at_once: bool,
        mark_written: impl Fn(u32) -> bool,
    ) -> Result<(), SendError> {
        if at_once
            && message.bytes.len() <= RECORD
            && let Some(mut writer) = self.free_writer()?
        {
            if message.mark_sent(mark_written) && !writer.write_now(&message.bytes) {
                self.request_flush();
            }
            return Ok(());
        }
        self.queue.lock().add(message, self.max_bytes)?;
        self.wake_writer();
        Ok(())
    }

    /// Sends a small frame about a body, at once if possible. It is accepted however much is
    /// queued, and dropped only when the link is closed.
    pub fn send_small(&self, bytes: Vec<u8>) {
        match self.free_writer() {
            Ok(Some(mut writer)) => {
                if !writer.write_now(&bytes) {
                    self.request_flush();
                }
            }
            Ok(None) => {
                self.queue.lock().add_small(bytes);
                self.wake_writer();
            }
            Err(_) => {}
        }
    }

    /// Queues a heartbeat or heartbeat reply, ahead of everything else.
    pub fn send_control(&self, bytes: Vec<u8>) -> Result<(), SendError> {
        self.queue.lock().add_control(bytes)?;
        self.wake_writer();
        Ok(())
    }

    /// Sends a frame of a body in pieces, from this thread if the writer is free and nothing is
    /// queued. The producer limits how many are queued.
    pub fn send_bulk(&self, body: &Arc<OutgoingStream>, frame: Vec<u8>) {
        if let Ok(Some(mut writer)) = self.free_writer() {
            if !writer.write_now(&frame) {
                self.request_flush();
            }
            drop(writer);
            body.written(Some(frame));
            return;
        }
        self.queue.lock().add_bulk(body, frame);
        self.wake_writer();
    }

    /// The writer, if it is free and nothing is queued.
    fn free_writer(&self) -> Result<Option<FragileGuard<'_, CiphertextWriter>>, SendError> {
        let Some(writer) = self.writer.try_lock().filter(|writer| writer.is_clear()) else {
            return Ok(None);
        };
        let queue = self.queue.lock();
        if queue.closed {
            return Err(SendError::Closed);
        }
        Ok(queue.is_quiet().then_some(writer))
    }

    /// Asks the writer thread to send what TLS itself has to send.
    pub fn request_flush(&self) {
        self.queue.lock().flush = true;
        self.wake_writer();
    }

    /// Closes the queue and drops its content; the writer thread sends `goodbye` and exits.
    pub fn close(&self, goodbye: Option<Vec<u8>>) {
        self.queue.lock().close(goodbye);
        self.wake_writer();
    }

    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        let queue = self.queue.lock();
        queue.is_quiet() && !queue.flush
    }

    /// Bytes of ciphertext accepted by the socket so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Messages queued, not counting pieces of bodies.
    pub fn waiting(&self) -> usize {
        self.queue.lock().messages()
    }

    /// The writer thread: writes until the queue is closed, then closes TLS cleanly. `mark_written`
    /// is called right before a request is written; `grouped` returns whether several messages may
    /// share a TLS record.
    pub fn write_all(
        &self,
        mark_written: impl Fn(u32) -> bool,
        grouped: impl Fn() -> bool,
    ) -> Result<(), WriteError> {
        let mut batch = Batch::default();
        while self.wait_for_work() {
            // Broken by a panic: the link is closed, and nothing can be sent.
            let Some(mut writer) = self.writer.lock() else { return Ok(()) };
            self.queue.lock().take(&mut batch);
            batch.release_producers();
            let grouped = grouped();
            for message in batch.messages.drain(..) {
                if message.mark_sent(&mark_written) {
                    writer.add(&message.bytes, grouped)?;
                }
            }
            let mut bulk = std::mem::take(&mut batch.bulk);
            for (frame, _) in bulk.drain(..) {
                writer.add(&frame, grouped)?;
                batch.keep(frame);
            }
            batch.bulk = bulk;
            writer.write_all()?;
        }
        let Some(mut writer) = self.writer.lock() else { return Ok(()) };
        let goodbye = self.queue.lock().goodbye.take();
        writer.end(goodbye)
    }

    /// Panics while holding the writer.
    #[cfg(test)]
    pub fn panic_under_lock(&self) {
        let _writer = self.writer.lock();
        panic!("on purpose");
    }

    fn wake_writer(&self) {
        // Full: a wake-up is already pending.
        let _ = self.wake.try_send(());
    }

    /// Waits for something to write; false once closed.
    fn wait_for_work(&self) -> bool {
        loop {
            {
                let queue = self.queue.lock();
                if queue.closed {
                    return false;
                }
                if !queue.is_quiet() || queue.flush {
                    return true;
                }
            }
            // Closing the link wakes this wait; the timeout is only an upper bound.
            let _ = spin::receive(&self.woken, WRITER_SLEEP, spin::SPINS_BUSY);
        }
    }
}
