//! Reads a head from a stream. Bytes read beyond it are returned to the stream.

use std::fmt;
use std::io;
use std::time::Instant;

use super::{Fields, UpgradeRequest, UpgradeResponse};
use crate::http1::head::{self, Field, InvalidHead, NO_FIELD, Profile};
use crate::remoted::stream::Stream;

/// Maximum number of bytes of a head.
pub const MAX_BYTES: usize = 16 * 1024;
/// Maximum number of fields of a head.
const MAX_FIELDS: usize = 64;
/// The bytes per read: more than a usual head.
const PIECE: usize = 1024;

/// Why there is no head.
#[derive(Debug)]
pub enum HeadError {
    /// The peer closed the connection before the first byte: it wants nothing more.
    Nothing,
    /// The peer closed the connection within the head.
    Ended,
    /// It took too long.
    TooSlow,
    /// It is longer than [`MAX_BYTES`] or has too many fields.
    TooLarge,
    /// It is not an HTTP/1 head; the reason.
    Malformed(String),
    /// The stream failed.
    Failed(io::Error),
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("the connection ended without a request or answer"),
            Self::Ended => f.write_str("the connection ended within the head"),
            Self::TooSlow => f.write_str("the head came too slowly"),
            Self::TooLarge => {
                write!(f, "the head is over {MAX_BYTES} bytes or {MAX_FIELDS} fields")
            }
            Self::Malformed(why) => write!(f, "the head cannot be read: {why}"),
            Self::Failed(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for HeadError {}

impl From<InvalidHead> for HeadError {
    fn from(error: InvalidHead) -> Self {
        match error {
            InvalidHead::TooLong(_) | InvalidHead::TooManyFields(_) => Self::TooLarge,
            error => Self::Malformed(error.to_string()),
        }
    }
}

/// Reads the whole head of a request before `deadline`.
pub fn read_request(stream: &mut Stream, deadline: Instant) -> Result<UpgradeRequest, HeadError> {
    let bytes = read(stream, deadline)?;
    let mut room = [NO_FIELD; MAX_FIELDS];
    let request = head::parse_request(&bytes, &mut room)?;
    let fields = owned(request.fields)?;
    Ok(UpgradeRequest {
        method: request.method.to_owned(),
        target: request.target.to_owned(),
        fields,
    })
}

/// Reads the whole head of a response before `deadline`. Interim ones that come before it are skipped (RFC
/// 9110, section 15.2); 101 is final here.
pub fn read_answer(stream: &mut Stream, deadline: Instant) -> Result<UpgradeResponse, HeadError> {
    loop {
        let bytes = read(stream, deadline)?;
        let mut room = [NO_FIELD; MAX_FIELDS];
        let answer = head::parse_response(&bytes, &mut room)?;
        if answer.status == 101 || !(100..=199).contains(&answer.status) {
            return Ok(UpgradeResponse { status: answer.status, fields: owned(answer.fields)? });
        }
        if Instant::now() >= deadline {
            return Err(HeadError::TooSlow);
        }
    }
}

fn read(stream: &mut Stream, deadline: Instant) -> Result<Vec<u8>, HeadError> {
    let mut bytes = Vec::new();
    loop {
        let seen = bytes.len();
        bytes.resize(seen + PIECE, 0);
        let count = stream.read_within(&mut bytes[seen..], deadline);
        bytes.truncate(seen + *count.as_ref().unwrap_or(&0));
        match count {
            Ok(0) if seen == 0 => return Err(HeadError::Nothing),
            Ok(0) => return Err(HeadError::Ended),
            Ok(_) => {}
            // Too late, or TLS without its close: it wants nothing either.
            Err(e) if is_quiet_end(&e) && seen == 0 => return Err(HeadError::Nothing),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(HeadError::TooSlow),
            Err(e) => return Err(HeadError::Failed(e)),
        }
        if let Some(length) = head::find_end(&bytes, seen, Profile::Upgrade, MAX_BYTES)? {
            stream.unread(bytes.split_off(length));
            return Ok(bytes);
        }
    }
}

fn is_quiet_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::UnexpectedEof)
}

fn owned(fields: &[Field<'_>]) -> Result<Fields, HeadError> {
    let owned = fields.iter().map(|field| {
        let value = std::str::from_utf8(field.value)
            .map_err(|_| HeadError::Malformed(format!("{} is not text", field.name)))?;
        Ok((field.name.to_owned(), value.to_owned()))
    });
    Ok(Fields(owned.collect::<Result<_, HeadError>>()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn pair() -> (UnixStream, Stream) {
        let (far, near) = UnixStream::pair().unwrap();
        (far, Stream::socket(near).unwrap())
    }

    fn request(bytes: &[u8]) -> Result<UpgradeRequest, HeadError> {
        let (mut far, mut near) = pair();
        far.set_nonblocking(true).unwrap();
        far.write_all(bytes).unwrap();
        drop(far);
        read_request(&mut near, soon())
    }

    #[test]
    fn a_head_is_read_and_what_follows_stays_in_the_stream() {
        let (mut far, mut near) = pair();
        far.write_all(b"GET /a?b HTTP/1.1\r\nHost: x\r\nWebRoute-ID: 7\r\n\r\nearly").unwrap();
        let head = read_request(&mut near, soon()).unwrap();
        assert_eq!(
            (head.method.as_str(), head.target.as_str(), head.path()),
            ("GET", "/a?b", "/a")
        );
        assert_eq!(head.fields.find("webroute-id"), Some("7"));
        assert_eq!(near.early(), b"early");
        far.write_all(b" and late").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(near.read_within(&mut buffer, soon()).unwrap(), 5);
        let count = near.read_within(&mut buffer, soon()).unwrap();
        assert_eq!(&buffer[..count], b" and late");
    }

    #[test]
    fn a_head_in_single_bytes_is_the_same_and_one_that_never_ends_is_cut_off() {
        let (mut far, mut near) = pair();
        let writer = std::thread::spawn(move || {
            for byte in b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webroute\r\n\r\n" {
                far.write_all(&[*byte]).unwrap();
            }
            far
        });
        let answer = read_answer(&mut near, soon()).unwrap();
        assert_eq!(answer.status, 101);
        assert!(answer.fields.has_token("upgrade", "WebRoute"));
        let mut far = writer.join().unwrap();
        far.write_all(b"GET ").unwrap();
        let until = Instant::now() + Duration::from_millis(50);
        assert!(matches!(read_request(&mut near, until), Err(HeadError::TooSlow)));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert!(matches!(request(b""), Err(HeadError::Nothing)));
        assert!(matches!(request(b"GET / HT"), Err(HeadError::Ended)));
        assert!(matches!(request(b"\x16\x03\x01\r\n\r\n"), Err(HeadError::Malformed(_))));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_BYTES));
        assert!(matches!(request(long.as_bytes()), Err(HeadError::TooLarge)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        assert!(matches!(request(many.as_bytes()), Err(HeadError::TooLarge)));
    }
}
