//! The chunked transfer coding (RFC 9112, section 7.1): a strict decoder, and an encoder that works
//! in place. No I/O.
//!
//! Extensions and trailers are limited in size and discarded.

use thiserror::Error;

/// Maximum number of hexadecimal digits in a chunk size: 64 bits.
const MAX_SIZE_DIGITS: usize = 16;
/// Maximum total size of the chunk extensions and trailers of one body, in bytes.
const MAX_EXTRA: usize = 8 * 1024;

/// The end of a body: the last chunk, without trailers.
pub(crate) const LAST: &[u8] = b"0\r\n\r\n";
/// Room reserved before the data for the chunk size: up to five digits, CR and LF.
pub(crate) const BEFORE: usize = 8;
/// Room reserved after the data for CR and LF.
pub(crate) const BEHIND: usize = 2;

/// Encodes the `count` bytes at offset [`BEFORE`] of `buffer` as a chunk, in place. `count` is less
/// than a mebibyte; [`BEHIND`] bytes must be free after the data.
pub(crate) fn encode(buffer: &mut [u8], count: usize) -> &[u8] {
    let size = format!("{count:x}\r\n");
    let start = BEFORE - size.len();
    buffer[start..BEFORE].copy_from_slice(size.as_bytes());
    buffer[BEFORE + count..BEFORE + count + BEHIND].copy_from_slice(b"\r\n");
    &buffer[start..BEFORE + count + BEHIND]
}

/// The position in the coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size; the number of digits so far.
    Size(usize),
    /// In the blanks between a size and its extension (RFC 9112, section 7.1.1).
    BeforeExtension,
    /// In an extension, up to the CR.
    Extension,
    /// At the LF after a size.
    SizeLf,
    /// In the data; the number of bytes remaining.
    Data(u64),
    /// At the CR after the data.
    DataCr,
    /// At the LF after the data.
    DataLf,
    /// In the trailers; whether the current line is still empty.
    Trailer { empty: bool },
    /// At the LF that ends a trailer line; whether that line was empty.
    TrailerLf { empty: bool },
    /// The body is complete.
    Done,
}

/// Decodes one body.
pub(crate) struct ChunkDecoder {
    state: State,
    size: u64,
    extra: usize,
}

impl ChunkDecoder {
    /// Starts at the beginning of a body.
    pub fn new() -> Self {
        Self { state: State::Size(0), size: 0, extra: 0 }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many contiguous body bytes come next, before any framing.
    pub fn data_ahead(&self) -> u64 {
        match self.state {
            State::Data(left) => left,
            _ => 0,
        }
    }

    /// Accounts for `count` of these bytes, which were read without this decoder.
    pub fn skip_data(&mut self, count: usize) {
        if let State::Data(left) = self.state {
            self.state = match left.saturating_sub(count as u64) {
                0 => State::DataCr,
                left => State::Data(left),
            };
        }
    }

    /// Decodes `bytes` into `body`. Returns how many bytes were consumed and how many were written;
    /// all are consumed unless `body` is full or the end of the body was reached. Every error
    /// closes the connection.
    pub fn feed(&mut self, bytes: &[u8], body: &mut [u8]) -> Result<(usize, usize), ChunkError> {
        let (mut used, mut written) = (0, 0);
        while used < bytes.len() && !self.is_done() {
            if let State::Data(left) = self.state {
                let room = (bytes.len() - used).min(body.len() - written);
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(room);
                if count == 0 {
                    break;
                }
                body[written..written + count].copy_from_slice(&bytes[used..used + count]);
                used += count;
                written += count;
                self.skip_data(count);
            } else {
                self.state = self.step(bytes[used])?;
                used += 1;
            }
        }
        Ok((used, written))
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(ChunkError::Malformed);
                }
                // At most 16 digits, so no bits are shifted out.
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.size = self.size << 4 | u64::from(digit);
                Ok(State::Size(digits + 1))
            }
            (State::Size(1..), b'\r') => Ok(State::SizeLf),
            (State::Size(1..) | State::BeforeExtension, b';') => {
                self.extra().map(|()| State::Extension)
            }
            (State::Size(1..) | State::BeforeExtension, b'\t' | b' ') => {
                self.extra().map(|()| State::BeforeExtension)
            }
            (State::Extension, b'\r') => Ok(State::SizeLf),
            // A quoted value and a trailer may contain any byte above 127.
            (State::Extension, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.extra().map(|()| State::Extension)
            }
            (State::SizeLf, b'\n') => Ok(match std::mem::take(&mut self.size) {
                0 => State::Trailer { empty: true },
                size => State::Data(size),
            }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(0)),
            (State::Trailer { empty }, b'\r') => Ok(State::TrailerLf { empty }),
            (State::Trailer { .. }, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.extra().map(|()| State::Trailer { empty: false })
            }
            (State::TrailerLf { empty: true }, b'\n') => Ok(State::Done),
            (State::TrailerLf { empty: false }, b'\n') => Ok(State::Trailer { empty: true }),
            _ => Err(ChunkError::Malformed),
        }
    }

    fn extra(&mut self) -> Result<(), ChunkError> {
        self.extra += 1;
        if self.extra <= MAX_EXTRA { Ok(()) } else { Err(ChunkError::TooLong) }
    }
}

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ChunkError {
    #[error("the chunked coding is broken")]
    Malformed,
    #[error("chunk extensions and trailers of more than {MAX_EXTRA} bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the body and the number of bytes after it; `None` if it is incomplete.
    fn decode(bytes: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, ChunkError> {
        let mut decoder = ChunkDecoder::new();
        let mut body = Vec::new();
        let mut room = [0; 100];
        let mut done = 0;
        for piece in bytes.chunks(step) {
            let mut used = 0;
            // The end of a body may need no more bytes, but always a call of its own.
            while used < piece.len() && !decoder.is_done() {
                let end = step.min(room.len());
                let (n, count) = decoder.feed(&piece[used..], &mut room[..end])?;
                assert!(n > 0);
                body.extend_from_slice(&room[..count]);
                used += n;
            }
            done += used;
            if decoder.is_done() {
                return Ok(Some((body, bytes.len() - done)));
            }
        }
        Ok(None)
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        for count in [1, 9, 4096, 0xf_ffff] {
            let mut buffer = vec![b'x'; BEFORE + count + BEHIND];
            let bytes = [encode(&mut buffer, count), b"0\r\n\r\n"].concat();
            let (body, rest) = decode(&bytes, bytes.len()).unwrap().unwrap();
            assert!(body == vec![b'x'; count] && rest == 0, "{count}");
        }
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_cut() {
        let bytes = b"3 ;a\r\nabc\r\n00A\t \t; x = \"y\xff\" ; z\r\n0123456789\r\n\
            0 ;\r\nX: y\xe4\r\n\r\nGET";
        for step in 1..bytes.len() {
            assert_eq!(decode(bytes, step), Ok(Some((b"abc0123456789".to_vec(), 3))), "{step}");
        }
        for cut in 0..bytes.len() - 3 {
            assert_eq!(decode(&bytes[..cut], 7), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        let cases: &[&[u8]] = &[
            b"\r\n",
            b";a\r\n",
            b"3\n",
            b"3\r\r",
            b"3 \r\n",
            b"3 4\r\n",
            b" 3\r\n",
            b"\t;a\r\n",
            b"+3\r\n",
            b"0x3\r\n",
            b"g\r\n",
            b"3;\x00\r\n",
            b"3;a\nb",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"3\r\nabc\r\r",
            b"0\r\nX: \x7f\r\n",
            b"0\r\nX: y\n",
            b"00000000000000001\r\n",
        ];
        for bytes in cases {
            for step in [1, 100] {
                assert_eq!(
                    decode(bytes, step),
                    Err(ChunkError::Malformed),
                    "{:?}",
                    bytes.escape_ascii().to_string()
                );
            }
        }
        assert_eq!(decode(b"ffffffffffffffff\r\nabc", 2), Ok(None), "any size may begin");
    }

    #[test]
    fn extensions_and_trailers_are_bounded_together() {
        let long = "x".repeat(MAX_EXTRA);
        assert_eq!(decode(format!("1;{long}\r\n").as_bytes(), 99), Err(ChunkError::TooLong));
        assert_eq!(decode(format!("0\r\n{long}x").as_bytes(), 99), Err(ChunkError::TooLong));
        let blanks = " ".repeat(MAX_EXTRA);
        assert_eq!(decode(format!("1 {blanks};x\r\n").as_bytes(), 99), Err(ChunkError::TooLong));
        let small = "1;y\r\na\r\n".repeat(50);
        assert!(decode(format!("{small}0\r\n\r\n").as_bytes(), 99).unwrap().is_some());
    }
}
