//! Sending a response, buffered or streamed, and what follows it on the connection.
//!
//! In scope: the `Connection` field, and whether the connection persists. Not in scope:
//! serialization.

use std::io;
use std::time::Instant;

use super::{After, Connection, RequestInfo};
use crate::http::response::HttpResponse;
use crate::http::response_writer::{self, Framed};
use crate::http::streamed::{self, Sent};
use crate::http::upload::EndedUpload;
use crate::http1::framing::Framing;
use crate::net::reset::set_reset_on_close;

impl Connection<'_> {
    /// Sends a response whose body is in memory.
    pub(super) fn send(
        &mut self,
        answer: HttpResponse,
        mut close: bool,
        info: RequestInfo,
    ) -> io::Result<After> {
        // An early response: the rest of the request body is not wanted.
        close |= self.pending_upload.is_some();
        let (keep, connection) = self.keep(close, info);
        let framed = Framed { head_only: info.head_only, connection };
        let deadline = Instant::now() + self.shared.settings.limits.transfer_timeout;
        self.writer.answer(answer.with_request_id(&info.id), framed, deadline)?;
        Ok(self.after(keep, info))
    }

    /// Sends a response whose body streams.
    pub(super) fn stream(
        &mut self,
        answer: HttpResponse,
        info: RequestInfo,
    ) -> io::Result<(Sent, After)> {
        let HttpResponse { head, mut body } = answer.with_request_id(&info.id);
        let status = head.status;
        let length = body.length().map(Framing::Length);
        if info.head_only || !response_writer::has_body(status) {
            // The body is not sent; dropping it stops its sender.
            drop(body);
            let framing = match status {
                205 => Framing::Length(0),
                _ if response_writer::has_body(status) => length.unwrap_or(Framing::None),
                _ => Framing::None,
            };
            let (keep, connection) = self.keep(false, info);
            self.writer.head(head, framing, connection)?;
            return Ok((Sent::Whole, self.after(keep, info)));
        }
        let unknown = if info.http_1_0 { Framing::Close } else { Framing::Chunked };
        let framing = length.unwrap_or(unknown);
        let (keep, connection) = self.keep(framing == Framing::Close, info);
        self.writer.head(head, framing, connection)?;
        let socket = self.slot.socket();
        if framing == Framing::Close {
            // The end of the connection delimits the body, so any close before the end of the body
            // must be a reset.
            set_reset_on_close(socket, true);
        }
        let sent = streamed::send(socket, &mut body, framing, self.slot)?;
        drop(body);
        if sent == Sent::Whole {
            if framing == Framing::Close {
                set_reset_on_close(socket, false);
            }
            return Ok((sent, self.after(keep, info)));
        }
        Ok((sent, After::Close))
    }

    /// Whether the connection persists, and the value of the `Connection` field.
    fn keep(&self, close: bool, info: RequestInfo) -> (bool, Option<&'static str>) {
        let keep = info.keep_alive && !close && !info.unread && !self.slot.stopping();
        let connection = match (keep, info.http_1_0) {
            (true, false) => None,
            (true, true) => Some("keep-alive"),
            (false, _) => Some("close"),
        };
        (keep, connection)
    }

    /// Decides what follows a response.
    fn after(&mut self, keep: bool, mut info: RequestInfo) -> After {
        if self.pending_upload.is_some() {
            if !keep {
                return After::Linger;
            }
            // The body and the response were transferred concurrently, and both may be complete.
            match self.reclaim_input() {
                Some(whole) => info.unread = !whole,
                None => return After::Close,
            }
        }
        match keep && !info.unread {
            true => After::Next,
            // More requests, or the rest of this one, may have arrived after it.
            false if info.keep_alive || info.unread => After::Linger,
            false if !self.input.buffered().is_empty() => After::Linger,
            false => After::Close,
        }
    }

    /// Takes the input back from an upload that is about to end; `None` if it does not end in time.
    pub(super) fn reclaim_input(&mut self) -> Option<bool> {
        let ended = self.pending_upload.as_ref()?.wait(self.shared.settings.limits.linger)?;
        self.pending_upload = None;
        Some(self.take_back(ended))
    }

    /// Returns whether the body was read completely.
    pub(super) fn take_back(&mut self, ended: EndedUpload) -> bool {
        self.input = ended.input;
        ended.whole
    }
}
