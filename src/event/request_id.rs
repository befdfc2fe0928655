//! The id of a request in the logs of both sides.

use std::fmt;

/// Longest id accepted from a caller or a peer, in bytes.
const MAX_BYTES: usize = 64;

/// The id of one request, the same in the answer's `RP-Request-Id` and in the logs of both sides: 1
/// to 64 of the characters `A-Z a-z 0-9 . _ -`, so that it is safe in headers and log lines.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    length: u8,
    bytes: [u8; MAX_BYTES],
}

impl RequestId {
    /// A new random id of 16 hexadecimal digits. It distinguishes requests and is not a secret.
    pub fn fresh() -> Self {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let number = fastrand::u64(..);
        let mut bytes = [0; MAX_BYTES];
        for (index, byte) in bytes[..16].iter_mut().enumerate() {
            *byte = DIGITS[(number >> (4 * index)) as usize % DIGITS.len()];
        }
        Self { length: 16, bytes }
    }

    /// An id chosen elsewhere; `None` if it is too long or has other characters.
    pub fn parse(text: &str) -> Option<Self> {
        let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_BYTES).contains(&text.len()) || !text.bytes().all(is_clean) {
            return None;
        }
        let mut bytes = [0; MAX_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { length: u8::try_from(text.len()).ok()?, bytes })
    }

    /// As [`RequestId::parse`], or a fresh one.
    pub fn parse_or_fresh(text: Option<&str>) -> Self {
        text.and_then(Self::parse).unwrap_or_else(Self::fresh)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Both constructors store ASCII.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fresh_ones_are_clean_and_differ() {
        let ids: HashSet<RequestId> = (0..10_000).map(|_| RequestId::fresh()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert_eq!(id.as_str().len(), 16);
            assert_eq!(RequestId::parse(id.as_str()), Some(id));
        }
    }

    #[test]
    fn only_short_and_clean_ones_are_taken_over() {
        let longest = "x".repeat(64);
        for good in ["a", "Zz09._-", "00000000-0000-4000-8000-000000000000", &longest] {
            assert_eq!(RequestId::parse(good).unwrap().to_string(), good);
        }
        let long = "x".repeat(65);
        let endless = "x".repeat(256 + 1);
        for bad in
            ["", " ", "a b", "a\n", "a\0", "a/b", "a:b", "a%41", "*", "ä", "１", &long, &endless]
        {
            assert_eq!(RequestId::parse(bad), None, "{bad:?}");
            assert_ne!(RequestId::parse_or_fresh(Some(bad)).as_str(), bad);
        }
        assert_eq!(RequestId::parse_or_fresh(None).as_str().len(), 16);
    }
}
