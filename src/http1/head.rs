//! The head of a message: finding its end, and parsing it.
//!
//! In scope: the syntax of RFC 9112, by the profile of the reader. Not in scope: which fields
//! matter.

use httparse::{Request, Response, Status};
use thiserror::Error;

/// A header field; its value is raw bytes.
pub(crate) use httparse::Header as Field;

/// An empty slot for a field; the number of slots passed in is the maximum number of fields.
pub(crate) const NO_FIELD: Field<'static> = httparse::EMPTY_HEADER;

/// Which bytes a reader accepts in a head, and as its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Requests to the local port: visible ASCII, space, tab, CR LF in pairs, and bytes above 127,
    /// which are checked in context. Parsers disagree about a lone LF or a NUL (RFC 9112, section
    /// 2.2).
    LocalPort,
    /// Replies of a local service: CR LF in pairs. Other bytes are checked in context.
    ServiceReply,
    /// Upgrades at the broker: ends at the first CR LF CR LF. A lone LF before that ends a line.
    Upgrade,
    /// Responses of a proxy: ends with an empty line, whether lines end with CR LF or LF, and
    /// starts as HTTP/1 does.
    ProxyAnswer,
}

/// The start of every response.
const VERSION: &[u8] = b"HTTP/1.";

/// Why there is no valid head, or none yet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum InvalidHead {
    #[error("the head has no end")]
    NoEnd,
    #[error("the head is longer than {0} bytes")]
    TooLong(usize),
    #[error("the head has more than {0} fields")]
    TooManyFields(usize),
    #[error("the head has a CR without an LF")]
    LoneCr,
    #[error("the head has an LF without a CR")]
    LoneLf,
    #[error("the head has a control character")]
    ControlCharacter,
    #[error("it is not HTTP")]
    NotHttp,
    #[error("the request line does not end with an HTTP version")]
    NoVersion,
    /// A well-formed version that is not 1.0 or 1.1.
    #[error("HTTP/1.1 and HTTP/1.0 are the only versions spoken here")]
    UnsupportedVersion,
    #[error("the head cannot be parsed: {0}")]
    Syntax(httparse::Error),
}

/// Returns the length of the head at the start of `bytes`, or `None` if it is incomplete. The first
/// `seen` bytes were searched before.
pub(crate) fn find_end(
    bytes: &[u8],
    seen: usize,
    profile: Profile,
    max_bytes: usize,
) -> Result<Option<usize>, InvalidHead> {
    let end = match profile {
        Profile::LocalPort => in_pairs(bytes, seen, false)?,
        Profile::ServiceReply => in_pairs(bytes, seen, true)?,
        Profile::Upgrade => blank_line(bytes, seen, &[b"\r\n\r\n"]),
        Profile::ProxyAnswer => {
            let begun = bytes.len().min(VERSION.len());
            if bytes[..begun] != VERSION[..begun] {
                return Err(InvalidHead::NotHttp);
            }
            blank_line(bytes, seen, &[b"\r\n\r\n", b"\n\n"])
        }
    };
    // An incomplete head needs at least one more byte.
    if end.unwrap_or(bytes.len() + 1) > max_bytes {
        return Err(InvalidHead::TooLong(max_bytes));
    }
    Ok(end)
}

fn in_pairs(
    bytes: &[u8],
    seen: usize,
    may_have_controls: bool,
) -> Result<Option<usize>, InvalidHead> {
    // Whether a CR at the end is valid depends on the next byte.
    for at in seen.saturating_sub(1)..bytes.len() {
        match bytes[at] {
            0x20..=0x7e | b'\t' | 0x80.. => {}
            b'\r' if bytes.get(at + 1).is_none_or(|next| *next == b'\n') => {}
            b'\n' if at > 0 && bytes[at - 1] == b'\r' => {
                if bytes[..at].ends_with(b"\r\n\r") {
                    return Ok(Some(at + 1));
                }
            }
            b'\r' => return Err(InvalidHead::LoneCr),
            b'\n' => return Err(InvalidHead::LoneLf),
            _ if may_have_controls => {}
            _ => return Err(InvalidHead::ControlCharacter),
        }
    }
    Ok(None)
}

fn blank_line(bytes: &[u8], seen: usize, ends: &[&[u8]]) -> Option<usize> {
    // The terminator may have begun in the bytes already searched.
    (seen.saturating_sub(3)..bytes.len())
        .find(|at| ends.iter().any(|end| bytes[..=*at].ends_with(end)))
        .map(|at| at + 1)
}

/// The head of a request.
#[derive(Debug)]
pub(crate) struct ParsedRequest<'b, 'f> {
    /// As sent: methods are case-sensitive.
    pub method: &'b str,
    /// In any form.
    pub target: &'b str,
    /// HTTP/1.0 if set, HTTP/1.1 otherwise.
    pub http_1_0: bool,
    /// In order of appearance.
    pub fields: &'f [Field<'b>],
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct ParsedResponse<'b, 'f> {
    /// Three digits.
    pub status: u16,
    /// HTTP/1.0 if set, HTTP/1.1 otherwise.
    pub http_1_0: bool,
    /// In order of appearance.
    pub fields: &'f [Field<'b>],
    /// The length of the head, in bytes.
    pub length: usize,
}

/// Parses the head of a request with at most as many fields as `room` holds.
pub(crate) fn parse_request<'b, 'f>(
    bytes: &'b [u8],
    room: &'f mut [Field<'b>],
) -> Result<ParsedRequest<'b, 'f>, InvalidHead> {
    let max_fields = room.len();
    let mut request = Request::new(room);
    match request.parse(bytes) {
        Err(httparse::Error::Version) => return Err(wrong_version(bytes)),
        parsed => complete(parsed, max_fields)?,
    };
    match (request.method, request.path, request.version) {
        (Some(method), Some(target), Some(minor)) => {
            Ok(ParsedRequest { method, target, http_1_0: minor == 0, fields: request.headers })
        }
        _ => Err(InvalidHead::NoEnd),
    }
}

/// Like [`parse_request`], for a response.
pub(crate) fn parse_response<'b, 'f>(
    bytes: &'b [u8],
    room: &'f mut [Field<'b>],
) -> Result<ParsedResponse<'b, 'f>, InvalidHead> {
    let max_fields = room.len();
    let mut response = Response::new(room);
    let length = complete(response.parse(bytes), max_fields)?;
    match (response.code, response.version) {
        (Some(status), Some(minor)) => {
            Ok(ParsedResponse { status, http_1_0: minor == 0, fields: response.headers, length })
        }
        _ => Err(InvalidHead::NoEnd),
    }
}

fn complete(
    parsed: Result<Status<usize>, httparse::Error>,
    max_fields: usize,
) -> Result<usize, InvalidHead> {
    match parsed {
        Ok(Status::Complete(length)) => Ok(length),
        Ok(Status::Partial) => Err(InvalidHead::NoEnd),
        Err(httparse::Error::TooManyHeaders) => Err(InvalidHead::TooManyFields(max_fields)),
        Err(error) => Err(InvalidHead::Syntax(error)),
    }
}

fn wrong_version(bytes: &[u8]) -> InvalidHead {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            InvalidHead::UnsupportedVersion
        }
        _ => InvalidHead::NoVersion,
    }
}

/// The options in all `Connection` fields (RFC 9110, section 7.6.1).
#[derive(Debug, Default)]
pub(crate) struct ConnectionOptions<'b> {
    close: bool,
    keep_alive: bool,
    /// All other options. Most heads have none, and an empty vector does not allocate.
    named: Vec<&'b [u8]>,
}

impl<'b> ConnectionOptions<'b> {
    /// Collects the options of one head.
    pub fn of(fields: &[Field<'b>]) -> Self {
        let mut options = Self::default();
        let connection =
            fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
        for option in connection.flat_map(|field| field.value.split(|byte| *byte == b',')) {
            match option.trim_ascii() {
                option if option.eq_ignore_ascii_case(b"close") => options.close = true,
                option if option.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                option => options.named.push(option),
            }
        }
        options
    }

    /// Whether the connection persists after the message (RFC 9112, section 9.3).
    pub fn keeps_alive(&self, http_1_0: bool) -> bool {
        !self.close && (!http_1_0 || self.keep_alive)
    }

    /// Whether an option names this field or protocol switch.
    pub fn names(&self, field: &str) -> bool {
        (self.close && field.eq_ignore_ascii_case("close"))
            || (self.keep_alive && field.eq_ignore_ascii_case("keep-alive"))
            || self.named.iter().any(|option| option.eq_ignore_ascii_case(field.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100;

    fn end(bytes: &[u8], profile: Profile) -> Result<Option<usize>, InvalidHead> {
        // The result does not depend on how the bytes are split.
        let whole = find_end(bytes, 0, profile, MAX);
        for seen in 0..bytes.len() {
            match find_end(&bytes[..seen], 0, profile, MAX) {
                Ok(None) => assert_eq!(find_end(bytes, seen, profile, MAX), whole, "{seen}"),
                found => {
                    assert_eq!(found, whole, "{seen}");
                    break;
                }
            }
        }
        whole
    }

    #[test]
    fn each_profile_takes_its_own_line_ends_and_no_others() {
        use Profile::{LocalPort, ProxyAnswer, ServiceReply, Upgrade};
        let lf = InvalidHead::LoneLf;
        let cr = InvalidHead::LoneCr;
        /// The result of each profile for the bytes.
        type Found = [Result<Option<usize>, InvalidHead>; 4];
        let cases: [(&[u8], Found); 7] = [
            (
                b"HTTP/1.1 200\r\nA: b\r\n\r\nx",
                [Ok(Some(22)), Ok(Some(22)), Ok(Some(22)), Ok(Some(22))],
            ),
            (
                b"HTTP/1.1 200\nA: b\n\nx",
                [Err(lf.clone()), Err(lf.clone()), Ok(None), Ok(Some(19))],
            ),
            (
                b"HTTP/1.1 200\nA: b\r\n\r\n",
                [Err(lf.clone()), Err(lf.clone()), Ok(Some(21)), Ok(Some(21))],
            ),
            (b"HTTP/1.1 200\rA: b\r\n\r\n", [Err(cr.clone()), Err(cr), Ok(Some(21)), Ok(Some(21))]),
            (b"HTTP/1.1 2\xff\r\n\r\n", [Ok(Some(15)), Ok(Some(15)), Ok(Some(15)), Ok(Some(15))]),
            (
                b"HTTP/1.1 2\x7f\r\n\r\n",
                [Err(InvalidHead::ControlCharacter), Ok(Some(15)), Ok(Some(15)), Ok(Some(15))],
            ),
            (
                b"GET / HTTP/1.1\r\n\r\n",
                [Ok(Some(18)), Ok(Some(18)), Ok(Some(18)), Err(InvalidHead::NotHttp)],
            ),
        ];
        for (bytes, expected) in cases {
            let found = [LocalPort, ServiceReply, Upgrade, ProxyAnswer].map(|p| end(bytes, p));
            assert_eq!(found, expected, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_head_is_bounded_whether_it_ends_or_not() {
        use Profile::{LocalPort, ProxyAnswer, ServiceReply, Upgrade};
        for profile in [LocalPort, ServiceReply, Upgrade, ProxyAnswer] {
            let head = |length: usize| {
                let mut bytes = b"HTTP/1.1 200 ".to_vec();
                bytes.resize(length - 4, b'x');
                bytes.extend_from_slice(b"\r\n\r\n");
                bytes
            };
            let too_long = Err(InvalidHead::TooLong(MAX));
            assert_eq!(find_end(&head(MAX), 0, profile, MAX), Ok(Some(MAX)));
            assert_eq!(find_end(&head(MAX + 1), 0, profile, MAX), too_long);
            let endless = head(MAX + 10);
            assert_eq!(find_end(&endless[..MAX - 1], 0, profile, MAX), Ok(None));
            assert_eq!(find_end(&endless[..MAX], 0, profile, MAX), too_long);
        }
    }

    #[test]
    fn options_of_all_connection_fields_count() {
        let field = |name, value| Field { name, value };
        let fields: [Field<'_>; 3] = [
            field("Connection", b"x-named ,, Keep-Alive"),
            field("connection", b"Upgrade"),
            field("Other", b"close"),
        ];
        let options = ConnectionOptions::of(&fields);
        assert!(options.keeps_alive(true) && options.keeps_alive(false));
        assert!(
            options.names("X-Named") && options.names("upgrade") && options.names("keep-alive")
        );
        assert!(!options.names("close") && !options.names("other"));
        let closing = ConnectionOptions::of(&[field("Connection", b"keep-alive, close")]);
        assert!(!closing.keeps_alive(true) && !closing.keeps_alive(false));
        let none = ConnectionOptions::of(&[]);
        assert!(none.keeps_alive(false) && !none.keeps_alive(true));
    }
}
