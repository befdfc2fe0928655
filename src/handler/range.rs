//! One byte range of a body (RFC 9110, section 14).

use crate::event::{Body, Reply, errors};

/// The requested bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// The whole body: there is no `Range` header, or it is ignored.
    Whole,
    /// From the first offset up to, not including, the second.
    Part(u64, u64),
    /// No bytes that the body has.
    Unsatisfiable,
}

impl Range {
    /// Parses a `Range` header for a body of `length` bytes. Multiple ranges, other units and
    /// invalid values are ignored, as a server may.
    pub fn of(header: Option<&str>, length: u64) -> Self {
        let range = header.and_then(|text| text.trim().split_once('='));
        let Some((first, last)) = range
            .filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"))
            .and_then(|(_, range)| range.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        match (number(first), number(last), first.is_empty(), last.is_empty()) {
            (Some(first), Some(last), ..) if first > last => Self::Whole,
            (Some(first), ..) if first >= length && (number(last).is_some() || last.is_empty()) => {
                Self::Unsatisfiable
            }
            (Some(first), Some(last), ..) => Self::Part(first, last.saturating_add(1).min(length)),
            (Some(first), None, _, true) => Self::Part(first, length),
            (None, Some(0), true, _) => Self::Unsatisfiable,
            (None, Some(_), true, _) if length == 0 => Self::Unsatisfiable,
            (None, Some(count), true, _) => Self::Part(length.saturating_sub(count), length),
            _ => Self::Whole,
        }
    }

    /// The reply with this range of a body of `length` bytes; `part` returns the bytes from the
    /// first offset up to, not including, the second.
    pub fn reply(
        self,
        media_type: &str,
        length: u64,
        part: impl FnOnce(u64, u64) -> Body,
    ) -> Reply {
        let reply = match self {
            Self::Whole => Reply::new(media_type, part(0, length)),
            Self::Part(from, to) => {
                Reply::new(media_type, part(from, to)).with_status(206).with_header(
                    "Content-Range",
                    format!("bytes {from}-{}/{length}", to.saturating_sub(1)),
                )
            }
            Self::Unsatisfiable => {
                let message = format!("the range lies behind the end, at byte {length}");
                errors::RANGE_NOT_SATISFIABLE
                    .reply(&message)
                    .with_header("Content-Range", format!("bytes */{length}"))
            }
        };
        reply.with_header("Accept-Ranges", "bytes")
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that overflows is beyond the end of any body.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (header, expected) in [
            ("bytes=0-0", Range::Part(0, 1)),
            ("bytes=2-4", Range::Part(2, 5)),
            ("bytes=2-", Range::Part(2, 10)),
            ("bytes=2-99", Range::Part(2, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-99", Range::Part(0, 10)),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=10-12", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=4-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("bytes=-", Range::Whole),
            ("lines=1-2", Range::Whole),
            ("bytes=99999999999999999999999-", Range::Unsatisfiable),
            ("bytes=2-99999999999999999999999", Range::Part(2, 10)),
            ("bytes=-99999999999999999999999", Range::Part(0, 10)),
            ("Bytes=2-4", Range::Part(2, 5)),
            ("bytes=0-18446744073709551615", Range::Part(0, 10)),
        ] {
            assert_eq!(Range::of(Some(header), 10), expected, "{header}");
        }
        assert_eq!(Range::of(None, 10), Range::Whole);
        assert_eq!(Range::of(Some("bytes=0-"), 0), Range::Unsatisfiable);
        assert_eq!(Range::of(Some("bytes=-1"), 0), Range::Unsatisfiable);
    }
}
