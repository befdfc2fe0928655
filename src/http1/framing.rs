//! How the end of a body is determined (RFC 9112, section 6), strictly: whatever two parsers could
//! interpret differently enables request smuggling, and is an error.

use thiserror::Error;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// By its length in bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection; responses only.
    Close,
}

impl Framing {
    /// The framing of a request, from the two fields that define it.
    pub fn of_request(
        length: Option<&[u8]>,
        transfer_encoding: Option<&[u8]>,
        http_1_0: bool,
    ) -> Result<Self, FramingError> {
        match of_fields(length, transfer_encoding, http_1_0)? {
            None | Some(Self::Length(0)) => Ok(Self::None),
            Some(framing) => Ok(framing),
        }
    }

    /// The framing of a response.
    pub fn of_response(
        length: Option<&[u8]>,
        transfer_encoding: Option<&[u8]>,
        http_1_0: bool,
    ) -> Result<Self, FramingError> {
        of_fields(length, transfer_encoding, http_1_0).map(|framing| framing.unwrap_or(Self::Close))
    }
}

/// Why the end of a body cannot be determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum FramingError {
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    LengthAndCoding,
    #[error("HTTP/1.0 knows no Transfer-Encoding")]
    CodingInHttp10,
    #[error("Content-Length is not a number of bytes")]
    LengthNotANumber,
    #[error("Content-Length has more than 64 bits")]
    LengthTooLarge,
    /// Not even a recipient that knows the codings could find the end (RFC 9112, section 6.3).
    #[error("Transfer-Encoding must end with chunked, once")]
    CodingWithoutEnd,
    /// RFC 9112, section 6.1.
    #[error("the only Transfer-Encoding understood here is chunked")]
    CodingUnknown,
}

fn of_fields(
    length: Option<&[u8]>,
    transfer_encoding: Option<&[u8]>,
    http_1_0: bool,
) -> Result<Option<Framing>, FramingError> {
    match (length, transfer_encoding) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(FramingError::LengthAndCoding),
        (Some(length), None) => of_length(length).map(Some),
        (None, Some(_)) if http_1_0 => Err(FramingError::CodingInHttp10),
        (None, Some(coding)) => of_coding(coding).map(Some),
    }
}

fn of_length(length: &[u8]) -> Result<Framing, FramingError> {
    // A list of lengths is invalid, and so is one with a sign.
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::LengthNotANumber);
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    length.iter().try_fold(0, add).map(Framing::Length).ok_or(FramingError::LengthTooLarge)
}

fn of_coding(coding: &[u8]) -> Result<Framing, FramingError> {
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let mut codings = coding.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    codings.next();
    if coding.is_empty() || codings.any(|coding| coding.eq_ignore_ascii_case(b"chunked")) {
        return Err(FramingError::CodingWithoutEnd);
    }
    Err(FramingError::CodingUnknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        let of = |length: &str| Framing::of_request(Some(length.as_bytes()), None, false);
        assert_eq!(of("0"), Ok(Framing::None));
        assert_eq!(Framing::of_response(Some(b"0"), None, false), Ok(Framing::Length(0)));
        assert_eq!(of("007"), Ok(Framing::Length(7)));
        for length in ["", "+5", "-1", "5, 5", "5,5", "5 5", "0x5", "5.0", "1e3", "five", "\u{663}"]
        {
            assert_eq!(of(length), Err(FramingError::LengthNotANumber), "{length:?}");
        }
        assert_eq!(of("18446744073709551615"), Ok(Framing::Length(u64::MAX)));
        for length in ["18446744073709551616", &"9".repeat(500)] {
            assert_eq!(of(length), Err(FramingError::LengthTooLarge), "{length:?}");
        }
    }

    #[test]
    fn a_coding_is_chunked_and_nothing_else() {
        use FramingError::{CodingUnknown, CodingWithoutEnd};
        let of = |coding: &str| Framing::of_request(None, Some(coding.as_bytes()), false);
        assert_eq!(of("Chunked"), Ok(Framing::Chunked));
        let cases = [
            ("gzip", CodingUnknown),
            ("identity", CodingUnknown),
            ("gzip, chunked", CodingUnknown),
            ("xchunked", CodingUnknown),
            ("chunked;a=b", CodingUnknown),
            ("chunked, chunked", CodingWithoutEnd),
            ("chunked, gzip", CodingWithoutEnd),
            ("chunked,", CodingWithoutEnd),
            ("", CodingWithoutEnd),
        ];
        for (coding, error) in cases {
            assert_eq!(of(coding), Err(error), "{coding:?}");
        }
    }

    #[test]
    fn a_length_and_a_coding_exclude_each_other() {
        for of in [Framing::of_request, Framing::of_response] {
            let both = of(Some(b"5"), Some(b"chunked"), false);
            assert_eq!(both, Err(FramingError::LengthAndCoding));
            assert_eq!(of(None, Some(b"chunked"), true), Err(FramingError::CodingInHttp10));
        }
    }

    #[test]
    fn without_a_field_a_request_has_no_body_and_an_answer_ends_with_its_connection() {
        assert_eq!(Framing::of_request(None, None, true), Ok(Framing::None));
        assert_eq!(Framing::of_response(None, None, true), Ok(Framing::Close));
    }
}
