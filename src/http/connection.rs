//! One connection on one thread: read a request, call the pipe, write the response, repeat.
//!
//! In scope: the sequence, and how a connection closes. Not in scope: the rules themselves, which
//! live in the modules it calls.

mod local;
mod respond;
mod tunnel;

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

use socket2::Socket;

use crate::event::errors;
use crate::event::pipe::RequestError;
use crate::event::{Body, Event, RequestId};
use crate::http::body;
use crate::http::head;
use crate::http::refusal::Refusal;
use crate::http::request::{self, CheckedRequest, PeerRequest};
use crate::http::response::HttpResponse;
use crate::http::response_writer::{self, ResponseWriter};
use crate::http::shared::Shared;
use crate::http::slots::ConnectionSlot;
use crate::http::streamed::Sent;
use crate::http::upload::{self, UploadHandle};
use crate::http1::framing::Framing;
use crate::http1::input::HttpInput;
use crate::sync::deadline::time_left;

/// Maximum number of bytes read from a caller only so that it sees the refusal.
const MAX_LINGER_BYTES: usize = 16 * 1024 * 1024;

/// The buffer's initial size; it grows for a longer head.
const FIRST_BYTES: usize = 4 * 1024;

/// Serves a connection until it closes.
pub(super) fn serve(shared: &Shared, slot: &ConnectionSlot) {
    let limits = &shared.settings.limits;
    let socket = slot.socket();
    if let Err(e) = socket.set_write_timeout(Some(limits.write_timeout)) {
        log::debug!("http: cannot set up a connection: {e}");
        return;
    }
    // Responses are written in one piece, so delaying them gains nothing. A Unix socket does not
    // support this option.
    let _ = socket.set_tcp_nodelay(true);
    let mut connection = Connection {
        shared,
        slot,
        input: input(socket),
        writer: ResponseWriter::new(socket),
        pending_upload: None,
    };
    loop {
        match connection.turn() {
            Ok(After::Next) => {}
            Ok(After::Close) => return,
            Ok(After::Linger) => return connection.linger(),
            Err(e) => return log::debug!("http: a caller did not read its response: {e}"),
        }
    }
}

/// An empty input, with no memory allocated.
fn input(socket: &Arc<Socket>) -> HttpInput {
    HttpInput::new(Arc::clone(socket), FIRST_BYTES, head::MAX_BYTES)
}

/// The first byte of a TLS connection (RFC 8446, section 5.1); no request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

struct Connection<'a> {
    shared: &'a Shared,
    slot: &'a ConnectionSlot,
    /// Empty while an upload owns it.
    input: HttpInput,
    writer: ResponseWriter<'a>,
    /// Set while the pipe still reads the body and the response is written; returns the input.
    pending_upload: Option<UploadHandle>,
}

/// What to do after a response.
enum After {
    /// Read the next request.
    Next,
    /// Close; all input was read.
    Close,
    /// Close, but let the caller read the response first.
    Linger,
}

/// What the response needs to know about its request.
#[derive(Clone, Copy)]
struct RequestInfo {
    started: Instant,
    http_1_0: bool,
    keep_alive: bool,
    head_only: bool,
    id: RequestId,
    /// Part of the body was not read, so the start of the next request is unknown.
    unread: bool,
}

impl Connection<'_> {
    /// Handles one request. Fails if the response cannot be written.
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
        let mut info = RequestInfo {
            started,
            http_1_0: head.http_1_0,
            keep_alive: head.keep_alive,
            head_only: head.method == "HEAD",
            id: RequestId::parse_or_fresh(head.request_id),
            unread: false,
        };
        let request = request::check(head, &self.shared.settings, &self.shared.guard);
        self.input.consume(end);
        let request = match request {
            Ok(request) => request,
            Err(mut refusal) => {
                // The body stays unread.
                refusal.close |= framing != Framing::None;
                return self.refuse(&refusal, Some(info));
            }
        };
        let request = match request {
            CheckedRequest::Peer(request) => request,
            CheckedRequest::Local(local) => return self.answer_locally(&local, framing, info),
        };
        if request.is_tunnel && framing == Framing::None {
            return self.tunnel(request, info);
        }
        let limits = &self.shared.settings.limits;
        let expected = request.expects_continue && framing != Framing::None;
        let Some(length) = body::small(framing) else {
            let input = std::mem::replace(&mut self.input, input(self.slot.socket()));
            let (body, handle) = upload::begin(input, framing, expected, limits.body_timeout);
            return self.ask(request, body, Some(handle), info);
        };
        if expected && self.input.buffered().is_empty() {
            response_writer::send_continue(self.slot.socket(), started + limits.transfer_timeout)?;
        }
        let mut share = self.shared.budget.share();
        match body::read(&mut self.input, length, &mut share, limits) {
            Ok(body) => {
                // The response time starts here, not at the head.
                info.started = Instant::now();
                self.ask(request, body.into(), None, info)
            }
            Err(refusal) => self.refuse(&self.incomplete(refusal), Some(info)),
        }
    }

    /// Why a body is not complete: this refusal, unless it is this node that waits no longer.
    fn incomplete(&self, refusal: Refusal) -> Refusal {
        if self.slot.input_was_ended() { RequestError::Stopping.into() } else { refusal }
    }

    /// Waits for a complete head and returns its length; `None` if the caller closed the connection
    /// or was idle for too long.
    fn read_head(&mut self) -> Result<Option<usize>, Refusal> {
        let limits = &self.shared.settings.limits;
        self.slot.set_busy(false);
        let mut seen = 0;
        let mut deadline = None;
        let mut may_skip = true;
        loop {
            // Tolerate an empty line before the request, left over from the caller's previous body
            // (RFC 9112, section 2.2).
            if may_skip && self.input.buffered().starts_with(b"\r\n") {
                self.input.consume(2);
                may_skip = false;
                seen = 0;
            }
            let buffered = self.input.buffered();
            if !buffered.is_empty() {
                self.slot.set_busy(true);
                if seen == 0 && buffered[0] == TLS_HANDSHAKE {
                    let message = "this port speaks HTTP without TLS: ask http://, not https://";
                    return Err(Refusal::closing(errors::BAD_REQUEST, message));
                }
                if let Some(end) = head::find_end(buffered, seen)? {
                    return Ok(Some(end));
                }
                seen = buffered.len();
                deadline.get_or_insert_with(|| Instant::now() + limits.head_timeout);
            } else if self.slot.stopping() {
                return Ok(None);
            }
            let left = deadline.map(time_left);
            match self.input.fill(left.unwrap_or(limits.idle_timeout).min(limits.idle_timeout)) {
                Ok(None) if deadline.is_some() => {
                    let message = "the head did not arrive in time";
                    return Err(Refusal::closing(errors::HEAD_TIMEOUT, message));
                }
                Ok(Some(0) | None) | Err(_) => {
                    // A caller that is in the middle of its request waits for an answer.
                    let is_owed = deadline.is_some() && self.slot.input_was_ended();
                    return if is_owed { Err(RequestError::Stopping.into()) } else { Ok(None) };
                }
                Ok(Some(_)) => {}
            }
        }
    }

    /// Sends the request to the pipe. An upload owns the input until its body is dropped.
    fn ask(
        &mut self,
        request: PeerRequest,
        body: Body,
        upload: Option<UploadHandle>,
        mut info: RequestInfo,
    ) -> io::Result<After> {
        let PeerRequest { destination, verb, target, media_type, headers, wait, .. } = request;
        let request_id = info.id;
        let head_only = info.head_only;
        let mut event = Event { verb, target, media_type, headers, body, head_only, request_id };
        self.slot.set_uploading(upload.is_some());
        let reply = self.shared.pipe.request(destination.peer(), &mut event, wait, self.slot);
        self.slot.set_uploading(false);
        let mut refused = None;
        if let Some(handle) = upload {
            // Drop the body if the pipe did not take it.
            event.body = Body::empty();
            match handle.answer() {
                Some(mut ended) => {
                    refused = ended.refusal.take();
                    info.unread = !self.take_back(ended);
                }
                None => self.pending_upload = Some(handle),
            }
        }
        let log = |status: u16, more: &str| {
            log::debug!(
                "{}: request {request_id}: {} {} answered {status} in {:?}{}",
                destination.name().escape_debug(),
                verb.as_str(),
                event.target,
                info.started.elapsed(),
                more.escape_debug()
            );
        };
        match (reply, refused) {
            (Ok(reply), _) => {
                let answer = self.shared.respond(reply, &event, &destination);
                log(answer.status(), "");
                if answer.body.whole().is_some() {
                    return self.send(answer, false, info);
                }
                let (sent, after) = self.stream(answer, info)?;
                if let Sent::Broken(why) = sent {
                    log::warn!(
                        "{}: request {request_id}: the reply to {} {} was cut short: {}",
                        destination.name().escape_debug(),
                        verb.as_str(),
                        event.target,
                        why.escape_debug()
                    );
                }
                Ok(after)
            }
            (Err(RequestError::CallerGone), _) => {
                log(499, ": the caller went away");
                Ok(After::Close)
            }
            // The upload's refusal describes the body error more precisely.
            (Err(RequestError::Body(_)), Some(refusal)) => {
                self.refuse(&self.incomplete(refusal), Some(info))
            }
            (Err(error), _) => {
                self.note_unknown(&error, request_id);
                let refusal = Refusal::from(error);
                log(refusal.status, &format!(": {}", refusal.message));
                self.send(HttpResponse::of_refusal(&refusal), refusal.close, info)
            }
        }
    }

    /// The id is the only way to find out later whether such a request was handled.
    fn note_unknown(&self, error: &RequestError, id: RequestId) {
        let is_unknown = match error {
            RequestError::NoReply { .. } | RequestError::OutcomeUnknown { .. } => true,
            RequestError::UnknownPeer(_)
            | RequestError::Ambiguous(_)
            | RequestError::Away { .. }
            | RequestError::Full(_)
            | RequestError::Stopping
            | RequestError::NotCarried(_)
            | RequestError::CallerGone
            | RequestError::Body(_)
            | RequestError::TooLarge(_) => false,
        };
        if is_unknown && let Some(more) = self.shared.unknown.allow() {
            log::warn!("http: request {id}: {}{more}", error.to_string().escape_debug());
        }
    }

    /// Sends a refusal. Without `info` the request could not be parsed, and the connection closes.
    fn refuse(&mut self, refusal: &Refusal, info: Option<RequestInfo>) -> io::Result<After> {
        let info = info.unwrap_or(RequestInfo {
            started: Instant::now(),
            http_1_0: false,
            keep_alive: false,
            head_only: false,
            id: RequestId::fresh(),
            unread: false,
        });
        let Refusal { status, error, message, .. } = refusal;
        let id = info.id;
        let why = format!("refused a request: {status} {error}: {message} (request {id})");
        self.shared.callers_log.warn(error, "http", &why);
        let close = refusal.close || !info.keep_alive;
        match self.send(HttpResponse::of_refusal(refusal), close, info)? {
            After::Close => Ok(After::Linger),
            after => Ok(after),
        }
    }

    /// Closes in two steps: closing with unread data sends a reset, which can discard a response
    /// that the caller has not read yet (RFC 9112, section 9.6).
    fn linger(mut self) {
        let limits = &self.shared.settings.limits;
        if self.slot.socket().shutdown(Shutdown::Write).is_err() {
            return;
        }
        if self.pending_upload.is_some() && self.reclaim_input().is_none() {
            return;
        }
        let deadline = Instant::now() + limits.linger;
        let mut read = 0;
        while read < MAX_LINGER_BYTES {
            self.input.consume(self.input.buffered().len());
            match self.input.fill(time_left(deadline)) {
                Ok(None | Some(0)) | Err(_) => return,
                Ok(Some(count)) => read += count,
            }
        }
    }
}

impl Drop for Connection<'_> {
    /// An upload may still be reading the socket and must see it end.
    fn drop(&mut self) {
        if self.pending_upload.is_some() {
            let _ = self.slot.socket().shutdown(Shutdown::Both);
        }
    }
}
