//! The body of a request: how its end is known, and reading all of a small one or nothing.
//!
//! In scope: the rules of RFC 9112, section 6, strictly; the limits. Not in scope: bodies that are
//! read while they are sent on (`upload`), the chunked coding.

use std::io;
use std::time::Instant;

use crate::http::Limits;
use crate::http::budget::Share;
use crate::http::input::Input;
use crate::http::refusal::Refusal;

/// Bodies up to this size, in bytes, are read whole before the request is asked: they cross in one
/// message, and can be sent again.
const SMALL: u64 = 16 * 1024;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// By its length in bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
}

impl Framing {
    /// From the two fields that say it. A length together with a transfer coding, a list of
    /// lengths, or a coding in HTTP/1.0 is what request smuggling is made of: refused.
    pub fn of(
        length: Option<&str>,
        transfer_encoding: Option<&str>,
        http_1_0: bool,
    ) -> Result<Self, Refusal> {
        match (length, transfer_encoding) {
            (None, None) => Ok(Self::None),
            (Some(_), Some(_)) => {
                Err(Refusal::malformed("Content-Length and Transfer-Encoding exclude each other"))
            }
            (Some(length), None) => Self::of_length(length),
            (None, Some(_)) if http_1_0 => {
                Err(Refusal::malformed("HTTP/1.0 knows no Transfer-Encoding"))
            }
            (None, Some(coding)) => Self::of_coding(coding),
        }
    }

    fn of_length(length: &str) -> Result<Self, Refusal> {
        if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::malformed("Content-Length is not a number of bytes"));
        }
        match length.parse() {
            Ok(0) => Ok(Self::None),
            Ok(length) => Ok(Self::Length(length)),
            Err(_) => {
                let message = "Content-Length has more than 64 bits";
                Err(Refusal::closing(413, "body_too_large", message))
            }
        }
    }

    /// 501 for a coding that is not understood, 400 where the end of the body could not be known
    /// even by one who understood it (RFC 9112, sections 6.1 and 6.3).
    fn of_coding(coding: &str) -> Result<Self, Refusal> {
        if coding.eq_ignore_ascii_case("chunked") {
            return Ok(Self::Chunked);
        }
        let mut codings = coding.rsplit(',').map(|c| c.trim_matches([' ', '\t']));
        codings.next();
        if coding.is_empty() || codings.any(|c| c.eq_ignore_ascii_case("chunked")) {
            return Err(Refusal::malformed("Transfer-Encoding must end with chunked, once"));
        }
        let message = "the only Transfer-Encoding understood here is chunked";
        Err(Refusal::closing(501, "coding_not_implemented", message))
    }

    /// The length of a body that is read whole; `None` for one that streams.
    pub fn small(self) -> Option<usize> {
        match self {
            Self::None => Some(0),
            // At most `SMALL`, so it fits.
            Self::Length(length) if length <= SMALL => Some(length as usize),
            Self::Length(_) | Self::Chunked => None,
        }
    }
}

/// Reads a whole body of `length` bytes. Every error ends the connection.
pub(super) fn read(
    input: &mut Input,
    length: usize,
    share: &mut Share<'_>,
    limits: &Limits,
) -> Result<Vec<u8>, Refusal> {
    if length == 0 {
        return Ok(Vec::new());
    }
    if !share.grow_to(length) {
        let message = "too many request bodies are held at once";
        return Err(Refusal::closing(503, "full", message).with_header("Retry-After", "1"));
    }
    let mut body = Vec::with_capacity(length);
    let deadline = Instant::now() + limits.transfer_timeout;
    match input.read_into(&mut body, length, limits.body_timeout, deadline) {
        Ok(()) if body.len() == length => Ok(body),
        Ok(()) => Err(Refusal::malformed("the body was cut short")),
        Err(e) if is_timeout(&e) => {
            Err(Refusal::closing(408, "body_timeout", "the body did not arrive in time"))
        }
        Err(e) => Err(Refusal::malformed(format!("the body was cut short: {e}"))),
    }
}

/// Whether a wait for the socket ran out.
pub(super) fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        let of = |length| Framing::of(Some(length), None, false);
        assert_eq!(of("0").unwrap(), Framing::None);
        assert_eq!(of("007").unwrap(), Framing::Length(7));
        for length in ["", "+5", "-1", "5, 5", "5,5", "5 5", "0x5", "5.0", "1e3", "five"] {
            assert_eq!(of(length).unwrap_err().status, 400, "{length:?}");
        }
        assert_eq!(of("18446744073709551615").unwrap(), Framing::Length(u64::MAX));
        for length in ["18446744073709551616", &"9".repeat(500)] {
            let refusal = of(length).unwrap_err();
            assert_eq!((refusal.status, refusal.close), (413, true), "{length:?}");
        }
        assert_eq!(Framing::Length(SMALL).small(), Some(16_384));
        assert_eq!(Framing::Length(SMALL + 1).small(), None);
    }

    #[test]
    fn a_coding_is_chunked_and_nothing_else() {
        let of = |coding| Framing::of(None, Some(coding), false);
        assert_eq!(of("Chunked").unwrap(), Framing::Chunked);
        let cases = [
            ("gzip", 501),
            ("identity", 501),
            ("gzip, chunked", 501),
            ("xchunked", 501),
            ("chunked;a=b", 501),
            ("chunked, chunked", 400),
            ("chunked, gzip", 400),
            ("chunked,", 400),
            ("", 400),
        ];
        for (coding, status) in cases {
            let refusal = of(coding).unwrap_err();
            assert_eq!((refusal.status, refusal.close), (status, true), "{coding:?}");
        }
    }

    #[test]
    fn a_length_and_a_coding_exclude_each_other() {
        assert_eq!(Framing::of(Some("5"), Some("chunked"), false).unwrap_err().status, 400);
        assert_eq!(Framing::of(None, Some("chunked"), true).unwrap_err().status, 400);
    }
}
