//! Serializes a response: the head, together with a buffered body, in one write.
//!
//! `tiny_http` formats the head.

use std::io::{self, IoSlice, Write};
use std::time::Instant;

use socket2::Socket;
use tiny_http::{HTTPVersion, Response, StatusCode};

use crate::event::header;
use crate::http::response::{HttpResponse, ResponseHead};
use crate::http1::framing::Framing;

/// Bodies up to this size are copied after the head; larger ones are written from their own buffer.
const COPY_BYTES: usize = 4 * 1024;
/// A buffer that many headers grew beyond this size is not reused.
const KEPT_BYTES: usize = 16 * 1024;

/// Opens a peer's document in a browser as one of an origin of its own: its scripts run, but cannot
/// ask in the name of this port, read its storage or register a service worker. What is no document
/// is not taken for one.
const SANDBOX: &[u8] = b"Content-Security-Policy: sandbox allow-scripts allow-forms allow-popups \
    allow-modals allow-downloads\r\nX-Content-Type-Options: nosniff\r\n";

/// Options for framing a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framed {
    /// Omit the body: the request was a `HEAD`.
    pub head_only: bool,
    /// The value of the `Connection` field, if one is needed.
    pub connection: Option<&'static str>,
}

/// Writes consecutive responses, reusing one buffer.
pub(super) struct ResponseWriter<'a> {
    socket: &'a Socket,
    buffer: Vec<u8>,
}

impl<'a> ResponseWriter<'a> {
    pub fn new(socket: &'a Socket) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    /// Writes a response whose body is in memory, until `deadline`; the socket's own timeout
    /// applies to each write.
    pub fn answer(
        &mut self,
        answer: HttpResponse,
        framed: Framed,
        deadline: Instant,
    ) -> io::Result<()> {
        let HttpResponse { head, body } = answer;
        let body = body.whole().filter(|_| has_body(head.status)).unwrap_or_default();
        self.buffer.clear();
        let length = Framing::Length(body.len() as u64);
        print_head(&mut self.buffer, head, length, framed.connection)?;
        let mut body = if framed.head_only { &[] } else { body };
        if body.len() <= COPY_BYTES {
            self.buffer.extend_from_slice(body);
            body = &[];
        }
        let written = write_all(self.socket, &[&self.buffer, body], Some(deadline));
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        written
    }

    /// Writes the head of a response whose body is streamed or omitted.
    pub fn head(
        &mut self,
        head: ResponseHead,
        framing: Framing,
        connection: Option<&str>,
    ) -> io::Result<()> {
        self.buffer.clear();
        print_head(&mut self.buffer, head, framing, connection)?;
        write_all(self.socket, &[&self.buffer, &[]], None)
    }
}

/// Sends `100 Continue`.
pub(super) fn send_continue(socket: &Socket, deadline: Instant) -> io::Result<()> {
    write_all(socket, &[b"HTTP/1.1 100 Continue\r\n\r\n", &[]], Some(deadline))
}

/// Sends `101 Switching Protocols` (RFC 9110, section 15.2.2).
pub(super) fn switch_to_tcp(socket: &Socket, deadline: Instant) -> io::Result<()> {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    write_all(socket, &[head, &[]], Some(deadline))
}

/// Whether a response with this status may have a body (RFC 9110, section 6.4.1).
pub(super) fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 205 | 304)
}

/// Appends the head of a response.
pub(super) fn print_head(
    buffer: &mut Vec<u8>,
    head: ResponseHead,
    framing: Framing,
    connection: Option<&str>,
) -> io::Result<()> {
    let ResponseHead { status, headers, fields, sandboxed } = head;
    let length = match framing {
        // A length beyond `usize` cannot occur for a body in memory.
        Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Framing::None | Framing::Chunked | Framing::Close => 0,
    };
    // The serializer does not check the length against the body, so the body need not pass through
    // it.
    Response::new(StatusCode(status), headers, io::empty(), Some(length), None)
        .with_chunked_threshold(usize::MAX)
        .raw_print(&mut *buffer, HTTPVersion(1, 1), &[], true, None)?;
    // The serializer ends with the length, if any, and drops a given `Connection` field: fix both
    // here. A 204 must not have a length, and a 304 need not.
    buffer.truncate(buffer.len() - 2);
    let no_length: &[u8] = b"Content-Length: 0\r\n";
    let is_unsaid = !matches!(framing, Framing::Length(_)) || matches!(status, 204 | 304);
    if is_unsaid && buffer.ends_with(no_length) {
        buffer.truncate(buffer.len() - no_length.len());
    }
    // A policy of the peer's own applies besides.
    if sandboxed {
        buffer.extend_from_slice(SANDBOX);
    }
    // Not by the serializer, whose values are ASCII.
    for (name, value) in &fields {
        if let Some(value) = header::to_bytes(value) {
            for part in [name.as_bytes(), b": ", &value, b"\r\n"] {
                buffer.extend_from_slice(part);
            }
        }
    }
    if framing == Framing::Chunked {
        buffer.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(connection) = connection {
        write!(buffer, "Connection: {connection}\r\n")?;
    }
    buffer.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes both parts; the socket's own timeout applies to each write.
pub(super) fn write_all(
    mut socket: &Socket,
    parts: &[&[u8]; 2],
    deadline: Option<Instant>,
) -> io::Result<()> {
    let mut parts = [IoSlice::new(parts[0]), IoSlice::new(parts[1])];
    let mut rest = if parts[1].is_empty() { &mut parts[..1] } else { &mut parts[..] };
    loop {
        let written = match &*rest {
            [one] => socket.write(one),
            both => socket.write_vectored(both),
        };
        let written = match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        IoSlice::advance_slices(&mut rest, written);
        if rest.is_empty() {
            return Ok(());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, length: u64, connection: Option<&str>) -> String {
        announced(status, Framing::Length(length), connection)
    }

    fn announced(status: u16, length: Framing, connection: Option<&str>) -> String {
        let headers = vec![tiny_http::Header::from_bytes("Server", "restpipe").unwrap()];
        String::from_utf8(printed(status, headers, &[], length, connection)).unwrap()
    }

    fn printed(
        status: u16,
        headers: Vec<tiny_http::Header>,
        fields: &[(&str, &str)],
        length: Framing,
        connection: Option<&str>,
    ) -> Vec<u8> {
        let fields = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut buffer = Vec::new();
        let head = ResponseHead { status, headers, fields, sandboxed: false };
        print_head(&mut buffer, head, length, connection).unwrap();
        buffer
    }

    #[test]
    fn the_peers_fields_are_written_byte_by_byte() {
        let fields = [("X-A", "Z\u{c3}\u{bc}rich \u{fc}"), ("Location", "/")];
        let bytes = printed(200, Vec::new(), &fields, Framing::Chunked, Some("close"));
        let end = b"\r\nX-A: Z\xc3\xbcrich \xfc\r\nLocation: /\r\n\
            Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        assert!(bytes.ends_with(end), "{}", bytes.escape_ascii());
    }

    fn lines(text: &str) -> Vec<&str> {
        text.split_terminator("\r\n").filter(|line| !line.starts_with("Date: ")).collect()
    }

    #[test]
    fn a_head_says_the_length_whatever_it_is() {
        let expected = |length: &str| {
            let length = format!("Content-Length: {length}");
            ["HTTP/1.1 200 OK", "Server: restpipe", &length, ""].map(str::to_owned)
        };
        assert_eq!(lines(&head(200, 0, None)), expected("0"));
        assert_eq!(lines(&head(200, 100_000_000, None)), expected("100000000"));
    }

    #[test]
    fn a_head_says_how_a_body_of_unknown_length_ends() {
        let text = announced(200, Framing::Chunked, None);
        let expected = ["HTTP/1.1 200 OK", "Server: restpipe", "Transfer-Encoding: chunked", ""];
        assert_eq!(lines(&text), expected);
        let text = announced(200, Framing::Close, Some("close"));
        let expected = ["HTTP/1.1 200 OK", "Server: restpipe", "Connection: close", ""];
        assert_eq!(lines(&text), expected);
    }

    #[test]
    fn the_connection_field_is_last() {
        let text = head(404, 2, Some("close"));
        assert!(text.ends_with("Content-Length: 2\r\nConnection: close\r\n\r\n"), "{text}");
    }

    #[test]
    fn what_has_no_body_has_no_length() {
        for status in [204, 304] {
            assert!(!head(status, 0, None).contains("Content-Length"), "{status}");
            assert!(!has_body(status));
        }
    }
}
