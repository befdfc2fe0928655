//! A request body that streams from the caller to the peer.
//!
//! In scope: the body's end and its limits, `100 Continue`, returning the input to the connection.
//! Not in scope: bodies that are read whole before the request is sent.
//!
//! The pipe may read it on a thread of its own, even while the connection writes the response.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::event::errors;
use crate::event::{Body, Source};
use crate::http::refusal::Refusal;
use crate::http::response_writer;
use crate::http1::body::BodyDecoder;
use crate::http1::framing::Framing;
use crate::http1::input::{BodyError, HttpInput};

/// A streaming request body. It owns the connection's input until the body ends or is dropped.
pub(super) struct Upload {
    input: Option<HttpInput>,
    decoder: BodyDecoder,
    /// Whether the caller waits for `100 Continue`.
    expected: bool,
    /// How long the caller may send nothing while the body is being read.
    idle_timeout: Duration,
    /// How long the caller has sent nothing so far.
    silence: Duration,
    /// Why reading failed.
    failure: Option<String>,
    shared: Arc<Shared>,
}

/// State shared between an upload and its connection.
#[derive(Default)]
struct Shared {
    /// Guards the returned input and the right to write to the caller: `100 Continue` is written
    /// under this lock, and no other I/O happens under it.
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// The response has begun.
    answered: bool,
    ended: Option<EndedUpload>,
}

/// An upload that has ended.
pub(super) struct EndedUpload {
    /// The connection's input, positioned after what was read.
    pub input: HttpInput,
    /// Whether the whole body was read, so that the next request follows.
    pub whole: bool,
    /// Why reading failed, if it did.
    pub refusal: Option<Refusal>,
}

/// The connection's handle to get its input back.
pub(super) struct UploadHandle(Arc<Shared>);

impl UploadHandle {
    /// Marks the response as begun, so that no `100 Continue` is sent any longer. Returns the
    /// input, or `None` while the upload still owns it.
    pub fn answer(&self) -> Option<EndedUpload> {
        let mut state = self.0.state.lock();
        state.answered = true;
        state.ended.take()
    }

    /// Waits for the upload to end and returns the input; `None` if it has not ended within
    /// `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<EndedUpload> {
        let mut state = self.0.state.lock();
        self.0.ended.wait_while_for(&mut state, |state| state.ended.is_none(), timeout);
        state.ended.take()
    }
}

/// Creates a body that reads from `input`. With `expected`, `100 Continue` is sent on the first
/// read. Reading fails if the caller sends nothing for a total of `idle_timeout`.
pub(super) fn begin(
    input: HttpInput,
    framing: Framing,
    expected: bool,
    idle_timeout: Duration,
) -> (Body, UploadHandle) {
    let length = match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::Close => None,
    };
    let shared = Arc::new(Shared::default());
    let upload = Upload {
        // A caller that has already sent part of the body needs no `100 Continue`.
        expected: expected && input.buffered().is_empty(),
        input: Some(input),
        decoder: BodyDecoder::new(framing),
        idle_timeout,
        silence: Duration::ZERO,
        failure: None,
        shared: Arc::clone(&shared),
    };
    (Body::from_source(upload, length), UploadHandle(shared))
}

impl Source for Upload {
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::other(failure.clone()));
        }
        if buffer.is_empty() || self.decoder.is_done() {
            return Ok(Some(0));
        }
        let wait = timeout.min(self.idle_timeout.saturating_sub(self.silence));
        let (kind, refusal) = match self.invite_and_read(buffer, wait) {
            Ok(Some(count)) => {
                self.silence = Duration::ZERO;
                // Immediately: a reader that has seen the end may respond, and then the next
                // request is read.
                if self.decoder.is_done() {
                    self.give_back(None);
                }
                return Ok(Some(count));
            }
            Ok(None) => {
                self.silence += wait;
                if self.silence < self.idle_timeout {
                    return Ok(None);
                }
                let message = "the body did not arrive in time";
                (io::ErrorKind::TimedOut, Refusal::closing(errors::BODY_TIMEOUT, message))
            }
            Err(error) => (error.kind(), Refusal::from(error)),
        };
        let failure = refusal.message.clone();
        self.failure = Some(failure.clone());
        self.give_back(Some(refusal));
        Err(io::Error::new(kind, failure))
    }

    fn waits_for_reader(&self) -> bool {
        self.expected
    }
}

impl Upload {
    fn invite_and_read(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<Option<usize>, BodyError> {
        let Some(input) = &mut self.input else { return Err(answered().into()) };
        if std::mem::take(&mut self.expected) {
            let state = self.shared.state.lock();
            // After the first byte of the response, it would become part of it.
            if state.answered {
                return Err(answered().into());
            }
            response_writer::send_continue(input.socket(), Instant::now() + self.idle_timeout)?;
        }
        input.read_body(&mut self.decoder, buffer, timeout)
    }

    fn give_back(&mut self, refusal: Option<Refusal>) {
        let Some(input) = self.input.take() else { return };
        let whole = self.failure.is_none() && self.decoder.is_done();
        self.shared.state.lock().ended = Some(EndedUpload { input, whole, refusal });
        self.shared.ended.notify_all();
    }
}

fn answered() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the request was answered already")
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.give_back(None);
    }
}
