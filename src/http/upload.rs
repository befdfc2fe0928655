//! A request's body that is read from its caller while it is sent on.
//!
//! In scope: the body's end and its limits, `100 Continue`, giving the input back. Not in scope:
//! bodies that are read whole before the request is asked.
//!
//! The pipe may read it on a thread of its own, and go on while the connection writes the answer.

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

/// A request's body on its way. It has the connection's input to itself until its end, or until it
/// is dropped.
pub(super) struct Upload {
    input: Option<HttpInput>,
    decoder: BodyDecoder,
    /// Whether the caller waits for `100 Continue`.
    expected: bool,
    /// How long the caller may send nothing while it is waited for.
    idle_timeout: Duration,
    /// How long it has sent nothing.
    silence: Duration,
    /// Why no more can be read.
    failure: Option<String>,
    shared: Arc<Shared>,
}

/// What an upload shares with its connection.
#[derive(Default)]
struct Shared {
    /// Guards what is handed over, and who writes to the caller: `100 Continue` is written while it
    /// is held, and nothing else that waits.
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// The answer has begun.
    answered: bool,
    ended: Option<EndedUpload>,
}

/// An upload that is no longer read.
pub(super) struct EndedUpload {
    /// The connection's input, behind what was read.
    pub input: HttpInput,
    /// Whether that was all of it, so that the next request follows.
    pub whole: bool,
    /// What was wrong with it.
    pub refusal: Option<Refusal>,
}

/// Where an upload leaves the input.
pub(super) struct UploadHandle(Arc<Shared>);

impl UploadHandle {
    /// The connection begins to answer: no `100 Continue` is sent from now on. Returns
    /// the input, or `None` while the upload still has it.
    pub fn answer(&self) -> Option<EndedUpload> {
        let mut state = self.0.state.lock();
        state.answered = true;
        state.ended.take()
    }

    /// The input, once the upload has ended; `None` if it has not within `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<EndedUpload> {
        let mut state = self.0.state.lock();
        self.0.ended.wait_while_for(&mut state, |state| state.ended.is_none(), timeout);
        state.ended.take()
    }
}

/// A body that reads from `input`. With `expected`, `100 Continue` is sent when somebody reads it. A caller that is waited for and sends nothing for `idle_timeout` in all has failed.
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
        // A caller that did not wait needs no `100 Continue`.
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
                // At once: who has seen the end may answer, and then the next request is read.
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
            // Behind the answer's first byte it would be a part of it.
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
