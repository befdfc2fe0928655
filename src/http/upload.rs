//! A request's body that is read from its caller while it is sent on.
//!
//! In scope: the body's end and its limits, `100 Continue`, giving the input back. Not in scope:
//! bodies that are read whole before the request is asked.
//!
//! The pipe may read it on a thread of its own, and go on while the connection writes the answer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::event::{Body, Source};
use crate::http::body::{Framing, is_timeout};
use crate::http::input::Input;
use crate::http::output;
use crate::http::refusal::Refusal;
use crate::http1::chunked::Decoder;

/// A request's body on its way. It has the connection's input to itself until its end, or until it
/// is dropped.
pub(super) struct Upload {
    input: Option<Input>,
    coding: Coding,
    /// Whether the caller has to be told to send it.
    expected: bool,
    /// How long the caller may send nothing while it is waited for.
    patience: Duration,
    /// How long it has.
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
    ended: Option<Ended>,
}

enum Coding {
    /// So many bytes to go.
    Length(u64),
    Chunked(Decoder),
}

/// An upload that nobody reads any more.
pub(super) struct Ended {
    /// The connection's input, behind what was read.
    pub input: Input,
    /// Whether that was all of it, so that the next request follows.
    pub whole: bool,
    /// What was wrong with it.
    pub refusal: Option<Refusal>,
}

/// Where an upload leaves the input.
pub(super) struct WayBack(Arc<Shared>);

impl WayBack {
    /// The connection begins to answer: the caller is not told to send the body any more. Returns
    /// the input, or `None` while the upload still has it.
    pub fn answer(&self) -> Option<Ended> {
        let mut state = self.0.lock();
        state.answered = true;
        state.ended.take()
    }

    /// The input, once the upload has ended; `None` if it has not within `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<Ended> {
        let mut state = self.0.lock();
        self.0.ended.wait_while_for(&mut state, |state| state.ended.is_none(), timeout);
        state.ended.take()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A body that reads from `input`. With `expected` the caller is told to send it when somebody reads
/// it. A caller that is waited for and sends nothing for `patience` in all has failed.
pub(super) fn begin(
    input: Input,
    framing: Framing,
    expected: bool,
    patience: Duration,
) -> (Body, WayBack) {
    let (coding, length) = match framing {
        Framing::None => (Coding::Length(0), Some(0)),
        Framing::Length(length) => (Coding::Length(length), Some(length)),
        Framing::Chunked => (Coding::Chunked(Decoder::new()), None),
    };
    let shared = Arc::new(Shared::default());
    let upload = Upload {
        // A caller that did not wait is not told to go on.
        expected: expected && input.buffered().is_empty(),
        input: Some(input),
        coding,
        patience,
        silence: Duration::ZERO,
        failure: None,
        shared: Arc::clone(&shared),
    };
    (Body::from_source(upload, length), WayBack(shared))
}

/// Why a read gave nothing.
enum Failed {
    Refused(Refusal),
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Source for Upload {
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::other(failure.clone()));
        }
        if buffer.is_empty() || self.coding.is_done() {
            return Ok(Some(0));
        }
        let wait = timeout.min(self.patience.saturating_sub(self.silence));
        let (kind, refusal) = match self.invite_and_read(buffer, wait) {
            Ok(read) => {
                self.silence = Duration::ZERO;
                // At once: who has seen the end may answer, and then the next request is read.
                if self.coding.is_done() {
                    self.give_back(None);
                }
                return Ok(read);
            }
            Err(Failed::Io(e)) if is_timeout(&e) => {
                self.silence += wait;
                if self.silence < self.patience {
                    return Ok(None);
                }
                let message = "the body did not arrive in time";
                (io::ErrorKind::TimedOut, Refusal::closing(408, "body_timeout", message))
            }
            Err(Failed::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                (e.kind(), Refusal::malformed("the body was cut short"))
            }
            Err(Failed::Io(e)) => {
                (e.kind(), Refusal::malformed(format!("the body was cut short: {e}")))
            }
            Err(Failed::Refused(refusal)) => (io::ErrorKind::InvalidData, refusal),
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
    ) -> Result<Option<usize>, Failed> {
        let Some(input) = &mut self.input else { return Err(Failed::from(gone())) };
        if std::mem::take(&mut self.expected) {
            let state = self.shared.lock();
            // Behind the answer's first byte it would be a part of it.
            if state.answered {
                return Err(Failed::from(gone()));
            }
            output::go_on(input.socket(), Instant::now() + self.patience)?;
        }
        self.coding.read(input, buffer, timeout)
    }

    fn give_back(&mut self, refusal: Option<Refusal>) {
        let Some(input) = self.input.take() else { return };
        let whole = self.failure.is_none() && self.coding.is_done();
        self.shared.lock().ended = Some(Ended { input, whole, refusal });
        self.shared.ended.notify_all();
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the request was answered already")
}

impl Coding {
    fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// Reads at least one byte of the body, or 0 at its end; `None` where only the coding went on.
    fn read(
        &mut self,
        input: &mut Input,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<Option<usize>, Failed> {
        match self {
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                let count = some(input.read(&mut buffer[..most], timeout)?)?;
                *left -= count as u64;
                Ok(Some(count))
            }
            Self::Chunked(decoder) => read_chunked(decoder, input, buffer, timeout),
        }
    }
}

fn read_chunked(
    decoder: &mut Decoder,
    input: &mut Input,
    buffer: &mut [u8],
    timeout: Duration,
) -> Result<Option<usize>, Failed> {
    let started = Instant::now();
    loop {
        let (used, count) = decoder.feed(input.buffered(), buffer).map_err(Refusal::from)?;
        input.consume(used);
        if count > 0 || decoder.is_done() {
            return Ok(Some(count));
        }
        let ahead = decoder.data_ahead();
        if ahead > 0 {
            // Past the buffer, which is empty and small.
            let most = usize::try_from(ahead).unwrap_or(usize::MAX).min(buffer.len());
            let count = some(input.read(&mut buffer[..most], timeout)?)?;
            decoder.skip_data(count);
            return Ok(Some(count));
        }
        some(input.fill(timeout, None)?)?;
        if started.elapsed() >= timeout && input.buffered().is_empty() {
            return Ok(None);
        }
    }
}

/// The end of the connection is none of a body.
fn some(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.give_back(None);
    }
}
