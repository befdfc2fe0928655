//! One request on a link, on the caller's thread.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::outgoing_body::{BodyStep, OutgoingBody};
use super::output::SendError;
use super::pending::PendingRequests;
use super::spin;
use super::streams::StreamKey;
use super::transport::{Transport, max_inline};
use super::unanswered::Unanswered;
use crate::event::{Event, Reply, Verb};
use crate::sync::workers::Workers;
use crate::wire::{Payload, Unsendable, encode_event};

/// How often a long wait checks whether the caller is still there.
const CALLER_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long the requesting thread waits for the next piece of its own body before another thread
/// takes over: also the longest that it delays an early reply.
const UPLOAD_WAIT: Duration = Duration::from_millis(5);

/// Sends one request and waits for its reply.
pub(super) struct Asker<'a> {
    pub pending: &'a Arc<PendingRequests>,
    pub transport: &'a Arc<Transport>,
    /// Workers that take over bodies still being sent.
    pub uploads: &'a Workers,
    /// Time limit for the reply, once the body is sent.
    pub timeout: Duration,
    /// Whether the caller has gone away.
    pub is_gone: &'a dyn Fn() -> bool,
}

impl Asker<'_> {
    /// Sends a request and waits for the reply.
    pub fn ask(&self, event: &mut Event) -> Result<Reply, Unanswered> {
        let Self { pending, transport, .. } = *self;
        let capabilities = transport.capabilities();
        let inline = max_inline(capabilities);
        if event.verb == Verb::Connect && !capabilities.streams {
            return Err(Unanswered::Unsendable(Unsendable::NoConnections));
        }
        let is_small = event.body.length().is_some_and(|length| length <= inline as u64);
        if !capabilities.streams || is_small {
            gather(event, capabilities.max_data)?;
        }
        let (waiter, answer) = bounded(1);
        let (id, is_alone) = pending.register(waiter)?;
        let whole = event.body.whole();
        let whole = whole.filter(|bytes| bytes.len() <= inline || !capabilities.streams);
        let payload = whole.map_or(Payload::Streamed(event.body.length()), Payload::Whole);
        let bytes = encode_event(id, event, payload, capabilities).map_err(|why| {
            pending.take(id);
            Unanswered::Unsendable(why)
        })?;
        let key = StreamKey::ours(id);
        // Registered before the event is sent: the peer may grant credit as soon as it arrives.
        let stream = whole.is_none().then(|| transport.streams.send(key));
        let mark_written = |id| pending.mark_written(id);
        match transport.output.send_request(bytes, id, stream.is_some(), is_alone, mark_written) {
            // Closing the link answers every waiter, so an answer is coming.
            Ok(()) | Err(SendError::Closed) => {}
            Err(SendError::Full) => {
                pending.take(id);
                transport.streams.sent(key);
                return Err(Unanswered::Full);
            }
        }
        if let Some(stream) = stream {
            let stall = transport.stall(event.verb);
            let body = OutgoingBody::new(transport, stream, event.body.take_out(), stall);
            self.upload(id, body, event.verb, &answer);
        }
        let spins = if is_alone { spin::SPINS_IDLE } else { spin::SPINS_BUSY };
        match self.wait(id, &answer, spins) {
            // The body is consumed and cannot be sent again.
            Err(Unanswered::NotSent(end)) if event.body.whole().is_none() => {
                Err(Unanswered::Lost(end))
            }
            answer => answer,
        }
    }

    /// Sends a body from this thread while it makes progress and no reply has arrived. A worker
    /// sends the rest: this thread has to take the reply, possibly before the body can end.
    fn upload(
        &self,
        id: u32,
        mut body: OutgoingBody,
        verb: Verb,
        answer: &Receiver<Result<Reply, Unanswered>>,
    ) {
        let pending = Arc::clone(self.pending);
        let on_broken = move |why: &str| pending.fail(id, why);
        let mut looked = Instant::now();
        // The two directions of a connection do not wait for each other.
        while verb != Verb::Connect && body.can_wait_briefly() && answer.is_empty() {
            match body.step(UPLOAD_WAIT) {
                BodyStep::Sent if looked.elapsed() < CALLER_POLL_INTERVAL => {}
                BodyStep::Sent if (self.is_gone)() => break,
                BodyStep::Sent => looked = Instant::now(),
                BodyStep::Waits => break,
                BodyStep::Ended(end) => return body.finish(&end, on_broken),
            }
        }
        if let Err(error) = self.uploads.run(move || drop(body.send(on_broken))) {
            self.transport.streams.sent(StreamKey::ours(id));
            self.pending.fail(id, &format!("no thread to send it: {error}"));
        }
    }

    /// Waits for the answer.
    fn wait(
        &self,
        id: u32,
        answer: &Receiver<Result<Reply, Unanswered>>,
        spins: usize,
    ) -> Result<Reply, Unanswered> {
        let mut deadline = Instant::now() + self.timeout;
        let mut wait = self.timeout.min(CALLER_POLL_INTERVAL);
        loop {
            match spin::receive(answer, wait, spins) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(Unanswered::NoReply),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // While the body is being sent, its own limits apply.
            if self.transport.streams.is_sending(StreamKey::ours(id)) {
                deadline = Instant::now() + self.timeout;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let error = if left.is_zero() {
                Unanswered::NoReply
            } else if (self.is_gone)() {
                Unanswered::CallerGone
            } else {
                wait = left.min(CALLER_POLL_INTERVAL);
                continue;
            };
            if self.give_up(id, "the caller does not wait any longer") {
                return Err(error);
            }
            // The waiter was taken just now: an answer is coming.
            return answer.recv().unwrap_or(Err(error));
        }
    }

    /// Gives up the reply and asks the peer to stop. False if the reply was already taken.
    fn give_up(&self, id: u32, why: &str) -> bool {
        let was_waiting = self.pending.take(id).is_some();
        if was_waiting && self.transport.capabilities().streams {
            let key = StreamKey::ours(id);
            self.transport.streams.stop(key, why);
            self.transport.stop(key, why);
        }
        was_waiting
    }
}

/// Reads a body that has to travel inside its event.
fn gather(event: &mut Event, most: usize) -> Result<(), Unanswered> {
    if event.body.whole().is_some() {
        return Ok(());
    }
    match event.body.gather(most) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let length = event.body.length().map_or(most + 1, |length| length as usize);
            Err(Unanswered::Unsendable(Unsendable::TooLarge { length, most }))
        }
        Err(error) => Err(Unanswered::Body(error.to_string())),
    }
}
