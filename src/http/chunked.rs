//! The chunked transfer coding, read strictly (RFC 9112, section 7.1): bytes in, body out, no I/O.
//!
//! Extensions and trailers are bounded and dropped.

use crate::http::body::too_large;
use crate::http::refusal::Refusal;

/// Most hexadecimal digits of a chunk's size.
const MAX_SIZE_DIGITS: usize = 16;
/// Most bytes of all chunk extensions and trailers of one body together.
const MAX_EXTRA: usize = 8 * 1024;

/// Where in the coding the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size; how many there were.
    Size(usize),
    /// In an extension, up to the CR.
    Extension,
    /// At the LF after a size.
    SizeLf,
    /// In the data, with so many bytes to go.
    Data(usize),
    /// At the CR after the data.
    DataCr,
    /// At the LF after the data.
    DataLf,
    /// In the trailers; whether this line is still empty.
    Trailer { empty: bool },
    /// At the LF that ends a trailer line; whether the line was empty.
    TrailerLf { empty: bool },
    /// The body is whole.
    Done,
}

/// Decodes one body.
pub(super) struct Decoder {
    state: State,
    size: usize,
    extra: usize,
    most: usize,
}

impl Decoder {
    /// For a body of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { state: State::Size(0), size: 0, extra: 0, most }
    }

    /// Takes bytes and appends what they stand for. Returns how many were used, and whether the
    /// body is whole; before it is, all are used. Every error ends the connection.
    pub fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<(usize, bool), Refusal> {
        let mut used = 0;
        while used < bytes.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let taken = left.min(bytes.len() - used);
                body.extend_from_slice(&bytes[used..used + taken]);
                used += taken;
                let left = left - taken;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
            } else {
                self.state = self.step(bytes[used], body.len())?;
                used += 1;
            }
        }
        Ok((used, self.state == State::Done))
    }

    fn step(&mut self, byte: u8, have: usize) -> Result<State, Refusal> {
        let malformed = || Refusal::malformed("the chunked coding is broken");
        match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(malformed());
                }
                // A hexadecimal digit is below 16, and a size over the limit ends here, so neither
                // of the two operations overflows.
                let digit = (byte as char).to_digit(16).unwrap_or(0) as usize;
                self.size = self.size.saturating_mul(16).saturating_add(digit);
                if self.size > self.most - have {
                    return Err(too_large(self.most));
                }
                Ok(State::Size(digits + 1))
            }
            (State::Size(1..), b'\r') => Ok(State::SizeLf),
            (State::Size(1..), b';') => self.extra().map(|()| State::Extension),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, b'\t' | 0x20..=0x7e) => self.extra().map(|()| State::Extension),
            (State::SizeLf, b'\n') => Ok(match std::mem::take(&mut self.size) {
                0 => State::Trailer { empty: true },
                size => State::Data(size),
            }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(0)),
            (State::Trailer { empty }, b'\r') => Ok(State::TrailerLf { empty }),
            (State::Trailer { .. }, b'\t' | 0x20..=0x7e) => {
                self.extra().map(|()| State::Trailer { empty: false })
            }
            (State::TrailerLf { empty: true }, b'\n') => Ok(State::Done),
            (State::TrailerLf { empty: false }, b'\n') => Ok(State::Trailer { empty: true }),
            _ => Err(malformed()),
        }
    }

    fn extra(&mut self) -> Result<(), Refusal> {
        self.extra += 1;
        if self.extra <= MAX_EXTRA {
            return Ok(());
        }
        let message = format!("chunk extensions and trailers of more than {MAX_EXTRA} bytes");
        Err(Refusal::closing(431, "trailers_too_large", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and what follows it, or the status; `None` where more bytes are wanted.
    fn decode(bytes: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, u16> {
        let mut decoder = Decoder::new(100);
        let mut body = Vec::new();
        let mut used = 0;
        for piece in bytes.chunks(step) {
            let (n, done) = decoder.feed(piece, &mut body).map_err(|refusal| {
                assert!(refusal.close);
                refusal.status
            })?;
            used += n;
            if done {
                return Ok(Some((body, bytes.len() - used)));
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_cut() {
        let bytes = b"3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET";
        for step in 1..bytes.len() {
            assert_eq!(decode(bytes, step), Ok(Some((b"abc0123456789".to_vec(), 3))), "{step}");
        }
        for cut in 0..bytes.len() - 3 {
            assert_eq!(decode(&bytes[..cut], 7), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        let cases: &[(&[u8], u16)] = &[
            (b"\r\n", 400),
            (b";a\r\n", 400),
            (b"3\n", 400),
            (b"3\r\r", 400),
            (b"3 \r\n", 400),
            (b"+3\r\n", 400),
            (b"0x3\r\n", 400),
            (b"g\r\n", 400),
            (b"3;\x00\r\n", 400),
            (b"3;a\nb", 400),
            (b"3\r\nabcd\r\n", 400),
            (b"3\r\nabc\n", 400),
            (b"3\r\nabc\r\r", 400),
            (b"0\r\nX: \xff\r\n", 400),
            (b"0\r\nX: y\n", 400),
            (b"00000000000000001\r\n", 400),
            (b"65\r\n", 413),
            (b"ffffffffffffffff\r\n", 413),
        ];
        for (bytes, status) in cases {
            for step in [1, 100] {
                assert_eq!(
                    decode(bytes, step),
                    Err(*status),
                    "{:?}",
                    bytes.escape_ascii().to_string()
                );
            }
        }
        let many = b"32\r\n".iter().chain(&[b'x'; 50]).chain(b"\r\n33\r\n");
        assert_eq!(decode(&many.copied().collect::<Vec<u8>>(), 9), Err(413), "the sum counts");
    }

    #[test]
    fn extensions_and_trailers_are_bounded_together() {
        let long = "x".repeat(MAX_EXTRA);
        assert_eq!(decode(format!("1;{long}\r\n").as_bytes(), 99), Err(431));
        assert_eq!(decode(format!("0\r\n{long}x").as_bytes(), 99), Err(431));
        let small = "1;y\r\na\r\n".repeat(50);
        assert!(decode(format!("{small}0\r\n\r\n").as_bytes(), 99).unwrap().is_some());
    }
}
