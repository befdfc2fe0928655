//! The head of a request: request line and header fields, validated byte by byte and then parsed.
//!
//! In scope: the syntax of RFC 9112, finding the end, and the fields this port uses. Not in scope:
//! reading it from a socket, and whether the request is allowed.

pub(super) mod forward;

use std::borrow::Cow;

use crate::event::header;
use crate::http::refusal::Refusal;
use crate::http1::framing::Framing;
use crate::http1::head::{
    self, ConnectionOptions, Field, InvalidHead, NO_FIELD, ParsedRequest, Profile,
};

/// Maximum size of a head, in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// Maximum number of header fields in a head: as many as cross the pipe.
const MAX_FIELDS: usize = header::MAX_FIELDS;

/// Returns the length of the head at the start of `bytes`, or `None` if it is incomplete. The first
/// `seen` bytes were searched before.
pub(super) fn find_end(bytes: &[u8], seen: usize) -> Result<Option<usize>, InvalidHead> {
    head::find_end(bytes, seen, Profile::LocalPort, MAX_BYTES)
}

/// What this port uses from a head; borrowed text is ASCII.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead<'a> {
    /// As sent: methods are case-sensitive.
    pub method: &'a str,
    /// The request target, in any form.
    pub target: &'a str,
    /// HTTP/1.0 if set, HTTP/1.1 otherwise.
    pub http_1_0: bool,
    /// Always present in HTTP/1.1.
    pub host: Option<&'a str>,
    /// Sent by browsers for most requests that a page makes.
    pub origin: Option<&'a str>,
    /// Sent by browsers with every request.
    pub fetch_site: Option<&'a str>,
    /// Empty if missing.
    pub content_type: Cow<'a, str>,
    /// The `RP-Wait` field.
    pub wait: Option<&'a str>,
    /// The `Expect` field.
    pub expect: Option<&'a str>,
    /// The `RP-Request-Id` field, or without one `X-Request-Id`, if there is exactly one; not
    /// validated.
    pub request_id: Option<&'a str>,
    /// The fields that are forwarded to the peer.
    pub headers: Vec<(String, String)>,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the caller wants to send another request on this connection.
    pub keep_alive: bool,
    /// The protocol the caller wants to switch to (RFC 9110, section 7.8).
    pub upgrade: Option<&'a str>,
}

impl RequestHead<'_> {
    /// The value of the first forwarded field with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Parses a complete head, as delimited by [`find_end`]. Every error closes the connection.
pub(super) fn parse(bytes: &[u8]) -> Result<RequestHead<'_>, Refusal> {
    let mut room = [NO_FIELD; MAX_FIELDS];
    let ParsedRequest { method, target, http_1_0, fields } = head::parse_request(bytes, &mut room)?;
    if !target.is_ascii() {
        return Err(Refusal::malformed("the path is not ASCII; other bytes are encoded (%C3%BC)"));
    }
    let mut found = Fields::default();
    for field in fields {
        found.take(field)?;
    }
    if found.host.is_none() && !http_1_0 {
        return Err(Refusal::malformed("HTTP/1.1 requires a Host field"));
    }
    let connection = ConnectionOptions::of(fields);
    let length = found.content_length.map(str::as_bytes);
    let transfer_encoding = found.transfer_encoding.map(str::as_bytes);
    Ok(RequestHead {
        method,
        target,
        http_1_0,
        host: found.host,
        origin: found.origin,
        fetch_site: found.fetch_site,
        content_type: found.content_type.unwrap_or_default(),
        wait: found.wait,
        expect: found.expect,
        request_id: found.request_id.only().or(found.foreign_request_id.only()),
        headers: forward::headers(fields, &connection),
        framing: Framing::of_request(length, transfer_encoding, http_1_0)?,
        keep_alive: connection.keeps_alive(http_1_0),
        upgrade: found.upgrade.filter(|_| connection.names("upgrade") && !http_1_0),
    })
}

#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    origin: Option<&'a str>,
    fetch_site: Option<&'a str>,
    content_type: Option<Cow<'a, str>>,
    content_length: Option<&'a str>,
    transfer_encoding: Option<&'a str>,
    wait: Option<&'a str>,
    expect: Option<&'a str>,
    request_id: Id<'a>,
    foreign_request_id: Id<'a>,
    upgrade: Option<&'a str>,
}

/// A field that is no reason to refuse a request, whatever it is.
#[derive(Default)]
struct Id<'a> {
    value: Option<&'a str>,
    more: bool,
}

impl<'a> Id<'a> {
    fn take(&mut self, value: &'a [u8]) {
        let value = std::str::from_utf8(value).unwrap_or_default();
        self.more |= self.value.replace(value).is_some();
    }

    fn only(&self) -> Option<&'a str> {
        self.value.filter(|_| !self.more)
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), Refusal> {
        // Most fields of a browser or a proxy are none of these; the length rules them out quickly.
        if !matches!(field.name.len(), 4 | 6 | 7 | 12..=14 | 17) {
            return Ok(());
        }
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let single = if is("host") {
            &mut self.host
        } else if is("origin") {
            &mut self.origin
        } else if is("sec-fetch-site") {
            &mut self.fetch_site
        } else if is("content-length") {
            &mut self.content_length
        } else if is("transfer-encoding") {
            &mut self.transfer_encoding
        } else if is("rp-wait") {
            &mut self.wait
        } else if is("expect") {
            &mut self.expect
        } else if is("upgrade") {
            &mut self.upgrade
        } else {
            if is("rp-request-id") {
                self.request_id.take(field.value);
            } else if is("x-request-id") {
                self.foreign_request_id.take(field.value);
            } else if is("content-type") {
                let again = self.content_type.replace(header::from_bytes(field.value));
                return once(field, again.is_some());
            }
            return Ok(());
        };
        let again = single.replace(text(field)?);
        once(field, again.is_some())
    }
}

fn once(field: &Field<'_>, again: bool) -> Result<(), Refusal> {
    match again {
        false => Ok(()),
        true => Err(Refusal::malformed(format!("more than one {} field", field.name))),
    }
}

fn text<'a>(field: &Field<'a>) -> Result<&'a str, Refusal> {
    match std::str::from_utf8(field.value) {
        Ok(value) if value.is_ascii() => Ok(value.trim_matches([' ', '\t'])),
        _ => Err(Refusal::malformed(format!("the {} field is not ASCII", field.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(bytes: &[u8]) -> u16 {
        match find_end(bytes, 0) {
            Err(error) => Refusal::from(error).status,
            Ok(None) => 0,
            Ok(Some(end)) => parse(&bytes[..end]).map_or_else(|refusal| refusal.status, |_| 200),
        }
    }

    #[test]
    fn the_end_is_found_wherever_the_bytes_are_cut() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET";
        let whole = bytes.len() - 3;
        for cut in 0..whole {
            assert_eq!(find_end(&bytes[..cut], 0).unwrap(), None, "{cut}");
            assert_eq!(find_end(bytes, cut).unwrap(), Some(whole), "{cut}");
        }
    }

    #[test]
    fn a_plain_head_is_understood() {
        let head = parse(
            b"POST /server/cat?a=b HTTP/1.1\r\nHost:  localhost:1 \r\nCONTENT-type: a/b\r\n\
              Content-Length: 12\r\nConnection: x, Close\r\nRP-Wait: 3\r\nExpect: 100-continue\r\n\
              X-Request-ID: a-1\r\nOrigin: null\r\nSec-Fetch-Site: none\r\nAccept: */*\r\n\r\n",
        )
        .unwrap();
        let expected = RequestHead {
            method: "POST",
            target: "/server/cat?a=b",
            http_1_0: false,
            host: Some("localhost:1"),
            origin: Some("null"),
            fetch_site: Some("none"),
            content_type: "a/b".into(),
            wait: Some("3"),
            expect: Some("100-continue"),
            request_id: Some("a-1"),
            headers: [
                ("X-Request-ID", "a-1"),
                ("Origin", "null"),
                ("Sec-Fetch-Site", "none"),
                ("Accept", "*/*"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            framing: Framing::Length(12),
            keep_alive: false,
            upgrade: None,
        };
        assert_eq!(head, expected);
    }

    #[test]
    fn of_two_ids_our_own_counts_and_of_several_none() {
        let id = |fields: &str| {
            let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            parse(bytes.as_bytes()).unwrap().request_id.map(str::to_owned)
        };
        assert_eq!(id(""), None);
        assert_eq!(id("X-Request-Id: a\r\n"), Some("a".to_owned()));
        assert_eq!(id("X-Request-Id: a\r\nRP-Request-Id: b\r\n"), Some("b".to_owned()));
        assert_eq!(id("X-Request-Id: a\r\nx-request-id: a\r\n"), None);
        assert_eq!(id("RP-Request-Id: a\r\nRP-Request-Id: a\r\n"), None);
    }

    #[test]
    fn keep_alive_follows_version_and_option() {
        let cases = [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ];
        for (version, field, expected) in cases {
            let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n");
            assert_eq!(parse(bytes.as_bytes()).unwrap().keep_alive, expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        let cases: &[(&[u8], u16)] = &[
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            (b"GET / HTTP/1.0\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", 0),
            (b"GET / HTTP/2.0\r\n\r\n", 505),
            (b"PRI * HTTP/2.0\r\n\r\n", 505),
            (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
            (b"GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
            (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
            (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", 400),
            (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\nHost: a\r\nCookie: town=Z\xc3\xbcrich\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: \xff\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\nHost: a\xff\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: \xc3\xa4\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xa4: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400),
            (b"G\xc3\xa4T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\xff\r\nHost: a\r\n\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
            (b"\x16\x03\x01\x02", 400),
        ];
        for (bytes, expected) in cases {
            assert_eq!(status(bytes), *expected, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn bytes_and_fields_are_bounded() {
        let with = |fields: usize| {
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields - 1))
        };
        assert_eq!(status(with(MAX_FIELDS).as_bytes()), 200);
        assert_eq!(status(with(MAX_FIELDS + 1).as_bytes()), 431);
        let long = |length: usize| {
            let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
            rest.replace("X: ", &format!("X: {}", "y".repeat(length - rest.len())))
        };
        assert_eq!(status(long(MAX_BYTES).as_bytes()), 200);
        assert_eq!(status(long(MAX_BYTES + 1).as_bytes()), 431);
        assert_eq!(status(&[b'a'; MAX_BYTES - 1]), 0);
        assert_eq!(status(&[b'a'; MAX_BYTES]), 431);
    }
}
