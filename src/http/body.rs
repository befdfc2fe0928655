//! The body of a request: how its end is known, and reading all of it or nothing.
//!
//! In scope: the rules of RFC 9112, section 6, strictly; the limits. Not in scope: the chunked
//! coding itself.

use std::io;
use std::time::Instant;

use crate::http::Limits;
use crate::http::budget::Share;
use crate::http::chunked::Decoder;
use crate::http::input::Input;
use crate::http::refusal::Refusal;

/// Most bytes read between two looks at the limits.
const STEP: usize = 64 * 1024;

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
        // More digits than fit are over every limit.
        match length.parse().unwrap_or(u64::MAX) {
            0 => Ok(Self::None),
            length => Ok(Self::Length(length)),
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

    /// Whether the announced length is within `most` bytes.
    pub fn check(self, most: usize) -> Result<(), Refusal> {
        match self {
            Self::Length(length) if length > most as u64 => Err(too_large(most)),
            _ => Ok(()),
        }
    }
}

/// The refusal of a body of more than `most` bytes.
pub(super) fn too_large(most: usize) -> Refusal {
    let message = format!("the body is larger than {most} bytes (RP_MAX_BODY_BYTES)");
    Refusal::closing(413, "body_too_large", message)
}

/// Reads a whole body of at most `most` bytes. Every error ends the connection.
pub(super) fn read(
    input: &mut Input<'_>,
    framing: Framing,
    most: usize,
    share: &mut Share<'_>,
    limits: &Limits,
) -> Result<Vec<u8>, Refusal> {
    framing.check(most)?;
    let deadline = Instant::now() + limits.transfer_timeout;
    let mut body = Vec::new();
    let read = match framing {
        Framing::None => Ok(()),
        Framing::Length(length) => {
            // Within `most`, so it fits.
            read_length(input, length as usize, &mut body, share, limits, deadline)
        }
        Framing::Chunked => read_chunked(input, most, &mut body, share, limits, deadline),
    };
    match read {
        Ok(()) => Ok(body),
        Err(End::Refused(refusal)) => Err(refusal),
        Err(End::Cut) => Err(Refusal::malformed("the body was cut short")),
        Err(End::Failed(e)) if is_timeout(&e) => {
            Err(Refusal::closing(408, "body_timeout", "the body did not arrive in time"))
        }
        Err(End::Failed(e)) => Err(Refusal::malformed(format!("the body was cut short: {e}"))),
    }
}

/// Whether a wait for the socket ran out.
pub(super) fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

enum End {
    Refused(Refusal),
    Cut,
    Failed(io::Error),
}

impl From<io::Error> for End {
    fn from(e: io::Error) -> Self {
        Self::Failed(e)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn hold(share: &mut Share<'_>, bytes: usize) -> Result<(), Refusal> {
    if share.grow_to(bytes) {
        return Ok(());
    }
    let message = "too many request bodies are held at once";
    Err(Refusal::closing(503, "full", message).with_header("Retry-After", "1"))
}

fn read_length(
    input: &mut Input<'_>,
    length: usize,
    body: &mut Vec<u8>,
    share: &mut Share<'_>,
    limits: &Limits,
    deadline: Instant,
) -> Result<(), End> {
    while body.len() < length {
        let goal = length.min(body.len() + STEP);
        hold(share, goal)?;
        if body.capacity() < goal {
            // Doubled, but never by the announced length alone, nor beyond it.
            let capacity = length.min(goal.max(body.capacity() * 2));
            body.reserve_exact(capacity - body.len());
        }
        input.read_into(body, goal - body.len(), limits.body_timeout, deadline)?;
        if body.len() < goal {
            return Err(End::Cut);
        }
    }
    Ok(())
}

fn read_chunked(
    input: &mut Input<'_>,
    most: usize,
    body: &mut Vec<u8>,
    share: &mut Share<'_>,
    limits: &Limits,
    deadline: Instant,
) -> Result<(), End> {
    let mut decoder = Decoder::new(most);
    loop {
        hold(share, body.len() + input.buffered().len())?;
        let (used, done) = decoder.feed(input.buffered(), body)?;
        input.consume(used);
        if done {
            return Ok(());
        }
        if input.fill(limits.body_timeout, Some(deadline))? == 0 {
            return Err(End::Cut);
        }
    }
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
        let long = "9".repeat(500);
        for length in ["17", "10000000000000", "18446744073709551616", &long] {
            let refusal = of(length).unwrap().check(16).unwrap_err();
            assert_eq!((refusal.status, refusal.close), (413, true), "{length:?}");
        }
        assert_eq!(of("16").unwrap().check(16), Ok(()));
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
