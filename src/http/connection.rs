//! One connection, on one thread: read a request, ask the pipe, write the answer, and again.
//!
//! In scope: the order of things, and how a connection ends. Not in scope: the rules themselves,
//! which are in the modules it calls.

use std::io;
use std::net::Shutdown;
use std::time::Instant;

use crate::event::{Event, RequestId};
use crate::http::answer::Answer;
use crate::http::body::{self, Framing, is_timeout};
use crate::http::face::Shared;
use crate::http::head;
use crate::http::input::Input;
use crate::http::output::{Framed, Output};
use crate::http::refusal::Refusal;
use crate::http::request::{self, Request};
use crate::http::slots::Slot;
use crate::pipe::RequestError;

/// Most bytes that are read from a caller only to let it see its refusal.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// Serves a connection to its end.
pub(super) fn serve(shared: &Shared, slot: &Slot) {
    let limits = &shared.settings.limits;
    let socket = slot.socket();
    if let Err(e) = socket.set_write_timeout(Some(limits.write_timeout)) {
        log::debug!("http: cannot set up a connection: {e}");
        return;
    }
    // Answers are written in one piece, so waiting for more would only delay them. A Unix socket
    // knows no such option.
    let _ = socket.set_tcp_nodelay(true);
    let mut connection =
        Connection { shared, slot, input: Input::new(socket), output: Output::new(socket) };
    loop {
        match connection.turn() {
            Ok(After::Next) => {}
            Ok(After::Close) => return,
            Ok(After::Linger) => return connection.linger(),
            Err(e) => return log::debug!("http: a caller did not take its answer: {e}"),
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    slot: &'a Slot,
    input: Input<'a>,
    output: Output<'a>,
}

/// What to do after a request.
enum After {
    /// Read the next one.
    Next,
    /// Close; everything the caller sent was read.
    Close,
    /// Close, but let the caller see the answer first.
    Linger,
}

/// What an answer has to know of its request.
#[derive(Clone, Copy)]
struct Caller {
    started: Instant,
    http_1_0: bool,
    keep_alive: bool,
    head_only: bool,
    id: RequestId,
}

impl Connection<'_> {
    /// One request. An error is one of writing the answer.
    fn turn(&mut self) -> io::Result<After> {
        let end = match self.read_head() {
            Ok(Some(end)) => end,
            Ok(None) => return Ok(After::Close),
            Err(refusal) => return self.refuse(&refusal, None),
        };
        let started = Instant::now();
        let head = match head::parse(&self.input.buffered()[..end]) {
            Ok(head) => head,
            Err(refusal) => return self.refuse(&refusal, None),
        };
        let framing = head.framing;
        let mut caller = Caller {
            started,
            http_1_0: head.http_1_0,
            keep_alive: head.keep_alive,
            head_only: head.method == "HEAD",
            id: RequestId::parse_or_fresh(head.request_id),
        };
        let request = request::check(&head, &self.shared.settings, &self.shared.guard);
        self.input.consume(end);
        let request = match request {
            Ok(request) => request,
            Err(mut refusal) => {
                // Its body is not read.
                refusal.close |= framing != Framing::None;
                return self.refuse(&refusal, Some(caller));
            }
        };
        if request.expects_continue && framing != Framing::None && self.input.buffered().is_empty()
        {
            self.output.go_on(started + self.shared.settings.limits.transfer_timeout)?;
        }
        let mut share = self.shared.budget.share();
        let settings = &self.shared.settings;
        let body = body::read(
            &mut self.input,
            framing,
            settings.max_body_bytes,
            &mut share,
            &settings.limits,
        );
        match body {
            Ok(body) => {
                // The reply's time is counted from here, not from the head.
                caller.started = Instant::now();
                self.ask(request, body, caller)
            }
            Err(refusal) => self.refuse(&refusal, Some(caller)),
        }
    }

    /// Waits for a whole head and returns its length; `None` where the caller is done, or was
    /// silent for too long.
    fn read_head(&mut self) -> Result<Option<usize>, Refusal> {
        let limits = &self.shared.settings.limits;
        self.slot.set_busy(false);
        let mut seen = 0;
        let mut deadline = None;
        let mut may_skip = true;
        loop {
            // An empty line before a request is left over from a careless caller's last body (RFC
            // 9112, section 2.2).
            if may_skip && self.input.buffered().starts_with(b"\r\n") {
                self.input.consume(2);
                may_skip = false;
                seen = 0;
            }
            let buffered = self.input.buffered();
            if !buffered.is_empty() {
                self.slot.set_busy(true);
                if let Some(end) = head::find_end(buffered, seen)? {
                    return Ok(Some(end));
                }
                seen = buffered.len();
                deadline.get_or_insert_with(|| Instant::now() + limits.head_timeout);
            } else if self.slot.stopping() {
                return Ok(None);
            }
            match self.input.fill(limits.idle_timeout, deadline) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(e) if is_timeout(&e) && deadline.is_some() => {
                    let message = "the head did not arrive in time";
                    return Err(Refusal::closing(408, "head_timeout", message));
                }
                Err(_) => return Ok(None),
            }
        }
    }

    fn ask(&mut self, request: Request, body: Vec<u8>, caller: Caller) -> io::Result<After> {
        let Request { destination, verb, target, media_type, wait, .. } = request;
        let event = Event { verb, target, media_type, body, request_id: caller.id };
        match self.shared.pipe.request(destination.peer(), &event, wait) {
            Ok(reply) => {
                let answer = Answer::of_reply(reply, &event);
                log::debug!(
                    "{}: request {}: {} {} answered {} in {:?}",
                    destination.name().escape_debug(),
                    caller.id,
                    verb.as_str(),
                    event.target,
                    answer.status,
                    caller.started.elapsed()
                );
                self.send(answer, false, caller)
            }
            Err(error) => {
                self.note_unknown(&error, caller.id);
                let refusal = Refusal::from(error);
                log::debug!(
                    "{}: request {}: {} {} answered {} in {:?}: {}",
                    destination.name().escape_debug(),
                    caller.id,
                    verb.as_str(),
                    event.target,
                    refusal.status,
                    caller.started.elapsed(),
                    refusal.message.escape_debug()
                );
                self.send(Answer::of_refusal(&refusal), refusal.close, caller)
            }
        }
    }

    /// Only with the id can somebody find out whether such a request was handled.
    fn note_unknown(&self, error: &RequestError, id: RequestId) {
        let is_unknown = match error {
            RequestError::NoReply { .. } | RequestError::OutcomeUnknown { .. } => true,
            RequestError::UnknownPeer(_)
            | RequestError::Ambiguous(_)
            | RequestError::Away { .. }
            | RequestError::Full(_)
            | RequestError::Stopping
            | RequestError::NotCarried(_)
            | RequestError::TooLarge(_) => false,
        };
        if is_unknown && let Some(left_out) = self.shared.unknown.note(Instant::now()) {
            log::warn!(
                "http: request {id}: {} ({left_out} more since the last such line)",
                error.to_string().escape_debug()
            );
        }
    }

    /// Says no. Without a `caller` the request was not understood, and the connection ends.
    fn refuse(&mut self, refusal: &Refusal, caller: Option<Caller>) -> io::Result<After> {
        let caller = caller.unwrap_or(Caller {
            started: Instant::now(),
            http_1_0: false,
            keep_alive: false,
            head_only: false,
            id: RequestId::fresh(),
        });
        if let Some(left_out) = self.shared.refusals.note(Instant::now()) {
            log::warn!(
                "http: refused a request: {} {}: {} (request {}; {left_out} more since the last such \
                 line)",
                refusal.status,
                refusal.error,
                refusal.message.escape_debug(),
                caller.id
            );
        }
        let close = refusal.close || !caller.keep_alive;
        match self.send(Answer::of_refusal(refusal), close, caller)? {
            After::Close => Ok(After::Linger),
            after => Ok(after),
        }
    }

    fn send(&mut self, answer: Answer, close: bool, caller: Caller) -> io::Result<After> {
        let keep = caller.keep_alive && !close && !self.slot.stopping();
        let connection = match (keep, caller.http_1_0) {
            (true, false) => None,
            (true, true) => Some("keep-alive"),
            (false, _) => Some("close"),
        };
        let framed = Framed { head_only: caller.head_only, connection };
        let deadline = Instant::now() + self.shared.settings.limits.transfer_timeout;
        self.output.answer(answer.with_request_id(&caller.id), framed, deadline)?;
        Ok(match keep {
            true => After::Next,
            // More requests may have arrived behind this one.
            false if caller.keep_alive || !self.input.buffered().is_empty() => After::Linger,
            false => After::Close,
        })
    }

    /// Closes in two steps: a close with unread bytes would be a reset, which can take the answer
    /// away from a caller that has not read it yet (RFC 9112, section 9.6).
    fn linger(mut self) {
        let limits = &self.shared.settings.limits;
        if self.slot.socket().shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + limits.linger;
        let mut read = 0;
        while read < MAX_LINGER_BYTES {
            self.input.consume(self.input.buffered().len());
            match self.input.fill(limits.linger, Some(deadline)) {
                Ok(0) | Err(_) => return,
                Ok(n) => read += n,
            }
        }
    }
}
