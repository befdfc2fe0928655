//! Asking: one request on a link, from the asker's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::body;
use super::output::{Outgoing, SendError};
use super::streams::{Key, Outbound};
use super::{Link, LinkEnd, Unanswered, lock, patience};
use crate::event::{Body, Event, Reply, Verb};
use crate::metrics::meter::RequestOutcome;
use crate::wire::{Payload, RegisterError, Unsendable, encode_event, encode_stop};

/// Bodies up to this size travel inside their event or reply, in bytes.
pub(super) const INLINE: usize = 16 * 1024;
/// How often a long wait looks whether the caller is still there.
const LOOK: Duration = Duration::from_millis(250);

/// Why a request on this link has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The link ended before the request was written, and its body is whole: it may be sent on
    /// another.
    NotSent(LinkEnd),
    /// The link ended after the request was written; whether it was handled is unknown.
    Lost(LinkEnd),
    /// Too many requests wait on this link. Not sent.
    Full,
    /// The peer cannot be sent this. Not sent.
    Unsendable(Unsendable),
    /// No reply within the time. It may have been handled.
    NoReply,
    /// The caller went away.
    CallerGone,
    /// The request's body could not be read to its end.
    Body(String),
}

impl LinkError {
    /// For those who count.
    pub const fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Lost(_) => RequestOutcome::Lost,
            Self::NoReply => RequestOutcome::NoReply,
            Self::CallerGone => RequestOutcome::CallerGone,
            Self::NotSent(_) | Self::Full | Self::Unsendable(_) | Self::Body(_) => {
                RequestOutcome::NotSent
            }
        }
    }
}

impl Link {
    /// Asks the peer and waits for its reply, for at most `timeout` once the body is sent.
    pub fn request(
        self: &Arc<Self>,
        event: &mut Event,
        timeout: Duration,
        gone: &dyn Fn() -> bool,
    ) -> Result<Reply, LinkError> {
        let answer = self.ask(event, timeout, gone);
        self.counts.asked.add(match &answer {
            Ok(reply) => RequestOutcome::of_code(reply.code),
            Err(error) => error.outcome(),
        });
        answer
    }

    fn ask(
        self: &Arc<Self>,
        event: &mut Event,
        timeout: Duration,
        gone: &dyn Fn() -> bool,
    ) -> Result<Reply, LinkError> {
        let capabilities = self.capabilities();
        let inline = INLINE.min(capabilities.max_data);
        if event.verb == Verb::Connect && !capabilities.streams {
            return Err(LinkError::Unsendable(Unsendable::NoConnections));
        }
        if !capabilities.streams
            || event.body.length().is_some_and(|length| length <= inline as u64)
        {
            gather(event, capabilities.max_data)?;
        }
        let (waiter, answer) = bounded(1);
        let (id, alone) = {
            let mut pending = lock(&self.pending);
            let id = match pending.register(waiter) {
                Ok(id) => id,
                Err(RegisterError::Full) => return Err(LinkError::Full),
                Err(RegisterError::Closed) => return Err(LinkError::NotSent(self.end())),
            };
            (id, pending.len() == 1)
        };
        let whole =
            event.body.whole().filter(|bytes| bytes.len() <= inline || !capabilities.streams);
        let payload = whole.map_or(Payload::Streamed(event.body.length()), Payload::Whole);
        let bytes = encode_event(id, event, payload, capabilities).map_err(|refused| {
            self.forget(id);
            LinkError::Unsendable(refused)
        })?;
        let key = Key { ours: true, id };
        // Before the event is out: the peer may grant credit as soon as it has it.
        let upload = whole.is_none().then(|| self.streams.send(key));
        let message = Outgoing { bytes, request: Some(id), followed: upload.is_some() };
        match self.output.send(message, alone, &self.tls, self.as_ref()) {
            // Closing answers every waiter, so there is an answer on its way.
            Ok(()) | Err(SendError::Closed) => {}
            Err(SendError::Full) => {
                self.forget(id);
                self.streams.sent(key);
                return Err(LinkError::Full);
            }
        }
        if let Some(upload) = upload {
            self.spawn_upload(upload, event.body.take_out(), self.stall(event.verb));
        }
        let turns = if alone { patience::ALONE } else { patience::CROWD };
        match self.wait(id, &answer, timeout, turns, gone)? {
            Ok(reply) => Ok(reply),
            Err(Unanswered::Lost { written: false, end }) if event.body.whole().is_some() => {
                Err(LinkError::NotSent(end))
            }
            Err(Unanswered::Lost { end, .. }) => Err(LinkError::Lost(end)),
            Err(Unanswered::Body(why)) => Err(LinkError::Body(why)),
        }
    }

    /// Sends a body from a thread of its own, for the reply may begin, and has to be taken, before
    /// the body has ended.
    fn spawn_upload(
        self: &Arc<Self>,
        upload: Arc<Outbound>,
        mut body: Body,
        stall: Option<Duration>,
    ) {
        let link = Arc::clone(self);
        let key = upload.key;
        let spawned = self.service.uploads.run(move || {
            body::pump(&link, &upload, &mut body, stall);
        });
        if let Err(error) = spawned {
            self.streams.sent(key);
            self.fail(key.id, format!("no thread to send it: {error}"));
        }
    }

    /// The body of a request cannot be sent whole.
    pub(super) fn fail(&self, id: u32, why: String) {
        let waiter = lock(&self.pending).take(id);
        self.settle();
        if let Some((waiter, _)) = waiter {
            // An asker that has given up at this moment is gone.
            let _ = waiter.try_send(Err(Unanswered::Body(why)));
        }
    }

    /// Waits for the answer.
    fn wait(
        &self,
        id: u32,
        answer: &Receiver<Result<Reply, Unanswered>>,
        timeout: Duration,
        turns: usize,
        gone: &dyn Fn() -> bool,
    ) -> Result<Result<Reply, Unanswered>, LinkError> {
        let mut deadline = Instant::now() + timeout;
        let mut wait = timeout.min(LOOK);
        loop {
            match patience::receive(answer, wait, turns) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(LinkError::NoReply),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // While the body is on its way, its own limits hold.
            if self.streams.is_sending(Key { ours: true, id }) {
                deadline = Instant::now() + timeout;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let error = if left.is_zero() {
                LinkError::NoReply
            } else if gone() {
                LinkError::CallerGone
            } else {
                wait = left.min(LOOK);
                continue;
            };
            if self.give_up(id, "the caller does not wait any longer") {
                return Err(error);
            }
            // Somebody took the waiter at this very moment, to answer it.
            return answer.recv().map_err(|_| error);
        }
    }

    /// Nobody waits for this reply any more; the peer is told. False when it was taken already.
    fn give_up(&self, id: u32, why: &str) -> bool {
        let forgotten = self.forget(id);
        if forgotten && self.capabilities().streams {
            let key = Key { ours: true, id };
            self.streams.stop(key, why);
            self.output.send_small(encode_stop(key.side(), id, why), &self.tls);
        }
        forgotten
    }
}

/// Reads a body that has to be inside its event.
fn gather(event: &mut Event, most: usize) -> Result<(), LinkError> {
    if event.body.whole().is_some() {
        return Ok(());
    }
    match event.body.gather(most) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            let length = event.body.length().map_or(most + 1, |length| length as usize);
            Err(LinkError::Unsendable(Unsendable::TooLarge { length, most }))
        }
        Err(error) => Err(LinkError::Body(error.to_string())),
    }
}
