//! The head of a service's reply: finding its end, parsing it, and selecting what is forwarded.
//!
//! In scope: parsing. Not in scope: I/O, and the body.
//!
//! An ambiguous reply (RFC 9112, sections 6.3 and 11.2) is rejected, and so is one with a control
//! character in a field.

use crate::event::header;
use crate::http1::framing::Framing;
use crate::http1::head::{
    self, ConnectionOptions, Field, InvalidHead, NO_FIELD, ParsedResponse, Profile,
};

/// Maximum size of a head, in bytes.
pub(super) const MAX_BYTES: usize = header::MAX_BYTES;

/// The parts of a reply's head that this node uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServiceReplyHead {
    /// 100 to 599.
    pub status: u16,
    /// Empty if missing.
    pub media_type: String,
    /// The fields that are forwarded to the caller, without the media type.
    pub headers: Vec<(String, String)>,
    /// How the body is delimited, if there is one.
    pub framing: Framing,
    /// Whether the service accepts another request on this connection.
    pub keep_alive: bool,
}

impl ServiceReplyHead {
    /// An interim reply ends with its head and is not forwarded (RFC 9112, section 6.3), so its fields
    /// mean nothing here.
    fn interim(status: u16) -> Self {
        Self {
            status,
            media_type: String::new(),
            headers: Vec::new(),
            framing: Framing::None,
            keep_alive: true,
        }
    }
}

/// Returns the length of the head at the start of `bytes`, or `None` if it is incomplete. The first
/// `seen` bytes were searched before.
pub(super) fn find_end(bytes: &[u8], seen: usize) -> Result<Option<usize>, InvalidHead> {
    head::find_end(bytes, seen, Profile::ServiceReply, MAX_BYTES)
}

/// Parses a complete head, as delimited by [`find_end`]. The error says why the reply is rejected.
pub(super) fn parse(bytes: &[u8]) -> Result<ServiceReplyHead, String> {
    let mut room = [NO_FIELD; header::MAX_FIELDS];
    let response = head::parse_response(bytes, &mut room).map_err(|error| error.to_string())?;
    let ParsedResponse { status: status @ 100..=599, http_1_0, fields, .. } = response else {
        return Err("its status is not one of HTTP".to_owned());
    };
    if matches!(status, 100..=199) {
        return Ok(ServiceReplyHead::interim(status));
    }
    let (mut length, mut coding, mut media_type) = (None, None, None);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            once(&mut length, field)?;
        } else if is("transfer-encoding") {
            once(&mut coding, field)?;
        } else if is("content-type") {
            once(&mut media_type, field)?;
        }
    }
    let media_type = header::from_bytes(media_type.unwrap_or_default()).into_owned();
    let connection = ConnectionOptions::of(fields);
    let framing = Framing::of_response(length, coding, http_1_0);
    let crosses = |field: &&Field<'_>| {
        !field.name.eq_ignore_ascii_case("content-type") && !connection.names(field.name)
    };
    let fields = fields.iter().filter(crosses);
    let fields = fields.map(|field| (field.name, header::from_bytes(field.value)));
    let headers = header::forwardable(fields)
        .map(|(name, value)| (name.to_owned(), value.into_owned()))
        .collect();
    Ok(ServiceReplyHead {
        status,
        media_type,
        headers,
        framing: framing.map_err(|error| error.to_string())?,
        keep_alive: connection.keeps_alive(http_1_0),
    })
}

fn once<'a>(place: &mut Option<&'a [u8]>, field: &Field<'a>) -> Result<(), String> {
    if place.replace(field.value.trim_ascii()).is_some() {
        return Err(format!("the head has more than one {} field", field.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<ServiceReplyHead, String> {
        match find_end(bytes, 0).map_err(|error| error.to_string())? {
            Some(end) => parse(&bytes[..end]),
            None => Err("more".to_owned()),
        }
    }

    fn with(fields: &str) -> Result<ServiceReplyHead, String> {
        read(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn a_head_is_understood_wherever_it_is_cut() {
        let bytes =
            b"HTTP/1.1 404 Not Found\r\nContent-Type: a/b\r\nContent-Length: 12\r\nX-A: b \r\n\
            Connection: x-named, keep-alive\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\n\r\nrest";
        let end = bytes.len() - 4;
        for cut in 0..end {
            assert_eq!(find_end(&bytes[..cut], 0), Ok(None), "{cut}");
            assert_eq!(find_end(bytes, cut), Ok(Some(end)), "{cut}");
        }
        let expected = ServiceReplyHead {
            status: 404,
            media_type: "a/b".to_owned(),
            headers: vec![("X-A".to_owned(), "b".to_owned())],
            framing: Framing::Length(12),
            keep_alive: true,
        };
        assert_eq!(parse(&bytes[..end]), Ok(expected));
    }

    #[test]
    fn the_end_of_the_body_and_of_the_connection_are_told() {
        for (version, fields, framing, keep) in [
            ("1.1", "", Framing::Close, true),
            ("1.1", "Transfer-Encoding: Chunked\r\n", Framing::Chunked, true),
            ("1.1", "Content-Length: 0\r\nConnection: Close\r\n", Framing::Length(0), false),
            ("1.0", "Content-Length: 7\r\n", Framing::Length(7), false),
            ("1.0", "Content-Length: 7\r\nConnection: keep-alive\r\n", Framing::Length(7), true),
        ] {
            let head = read(format!("HTTP/{version} 200 \r\n{fields}\r\n").as_bytes()).unwrap();
            assert_eq!((head.framing, head.keep_alive), (framing, keep), "{version} {fields}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_reply() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\ncontent-length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "Content-Length : 5\r\n",
            "X: a\r\n b\r\n",
            "X: a\r\n\tb\r\n",
            " X: a\r\n",
            "X: a\nY: b\r\n",
            "X: a\rY: b\r\n",
            "X: a\x00b\r\n",
            "X a\r\n",
            ": a\r\n",
            "X(: a\r\n",
            "Content-Type: a/b\r\nContent-Type: c/d\r\n",
        ] {
            let found = with(fields);
            assert!(found.as_ref().is_err_and(|why| why != "more"), "{fields:?}: {found:?}");
        }
        for line in [
            "HTTP/1.1 200 OK\nX: y",
            "HTTP/2 200 OK",
            "HTTP/1.1 99 X",
            "HTTP/1.1 600 X",
            "HTTP/1.1 2000 X",
            "HTTP/1.1 abc",
            "HTTP/1.1",
            "ICY 200 OK",
            "",
            "220 smtp.example ESMTP",
            "\x16\x03\x01",
            "HTTP/1.1 200 a\x00b",
            "HTTP/1.2 200 OK",
        ] {
            let found = read(format!("{line}\r\n\r\n").as_bytes());
            assert!(found.as_ref().is_err_and(|why| why != "more"), "{line:?}: {found:?}");
        }
        let head = read(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(head.unwrap_err(), "HTTP/1.0 knows no Transfer-Encoding");
    }

    /// No byte in a field can inject another field or pass unescaped.
    #[test]
    fn every_byte_of_a_field_is_carried_or_refused() {
        for byte in 0..=255u8 {
            for place in ["NAME", "VALUE"] {
                let mut bytes = b"HTTP/1.1 200 OK\r\nX-A".to_vec();
                bytes.extend((place == "NAME").then_some(byte));
                bytes.extend_from_slice(b"b: c");
                bytes.extend((place == "VALUE").then_some(byte));
                bytes.extend_from_slice(b"d\r\n\r\n");
                let Ok(head) = read(&bytes) else { continue };
                assert!(head.headers.len() <= 1, "{byte} {:?}", head.headers);
                for (name, value) in &head.headers {
                    assert!(header::is_token(name) && header::is_clean(value), "{byte}");
                    assert!(name.starts_with("X-A"), "{byte} {name}");
                }
                let [(_, value)] = &head.headers[..] else { panic!("{byte} {place}: {head:?}") };
                let sent = bytes.split(|byte| *byte == b'\n').nth(1).unwrap();
                let sent = sent.splitn(2, |byte| *byte == b':').nth(1).unwrap().trim_ascii();
                assert_eq!(header::to_bytes(value).as_deref(), Some(sent), "{byte} {place}");
            }
        }
    }

    #[test]
    fn bytes_and_fields_are_bounded() {
        assert!(with(&"X: y\r\n".repeat(header::MAX_FIELDS)).is_ok());
        assert!(with(&"X: y\r\n".repeat(header::MAX_FIELDS + 1)).unwrap_err().contains("fields"));
        let rest = "HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
        assert!(with(&format!("X: {}\r\n", "y".repeat(MAX_BYTES - rest))).is_ok());
        assert!(with(&format!("X: {}\r\n", "y".repeat(MAX_BYTES - rest + 1))).is_err());
        assert!(find_end(&vec![b'x'; MAX_BYTES - 1], 0).is_ok());
        assert!(find_end(&vec![b'x'; MAX_BYTES], 0).is_err());
    }
}
