//! Decoding and sending bodies, in every framing.
//!
//! A body that does not match its announced length is an error, and never looks complete to its
//! receiver.

use thiserror::Error;

use super::chunked::{self, BEFORE, BEHIND, ChunkDecoder, ChunkError};
use super::framing::Framing;

/// The position in a body.
pub(crate) enum BodyDecoder {
    /// This many bytes remain.
    Length(u64),
    /// Chunked transfer coding.
    Chunked(ChunkDecoder),
    /// Until the connection closes.
    Close,
}

impl BodyDecoder {
    /// Starts at the beginning of a body.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(ChunkDecoder::new()),
            Framing::Close => Self::Close,
        }
    }

    /// Whether the body is complete; always `false` for one delimited by the end of the connection.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::Close => false,
        }
    }

    /// How many contiguous body bytes come next, before any framing.
    pub fn data_ahead(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(decoder) => decoder.data_ahead(),
            Self::Close => u64::MAX,
        }
    }

    /// Accounts for `count` of these bytes, which were read without this decoder.
    pub fn skip_data(&mut self, count: usize) {
        match self {
            Self::Length(left) => *left = left.saturating_sub(count as u64),
            Self::Chunked(decoder) => decoder.skip_data(count),
            Self::Close => {}
        }
    }

    /// Decodes `bytes` into `body`. Returns how many bytes were consumed and how many were written;
    /// all are consumed unless `body` is full or the end of the body was reached.
    pub fn feed(&mut self, bytes: &[u8], body: &mut [u8]) -> Result<(usize, usize), ChunkError> {
        if let Self::Chunked(decoder) = self {
            return decoder.feed(bytes, body);
        }
        let ahead = usize::try_from(self.data_ahead()).unwrap_or(usize::MAX);
        let count = ahead.min(bytes.len()).min(body.len());
        body[..count].copy_from_slice(&bytes[..count]);
        self.skip_data(count);
        Ok((count, count))
    }

    /// Handles the end of the connection.
    pub fn end(&mut self) -> Result<(), BodyCut> {
        match self {
            Self::Close => {
                *self = Self::Length(0);
                Ok(())
            }
            _ if self.is_done() => Ok(()),
            _ => Err(BodyCut),
        }
    }
}

/// The connection closed before the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection ended")]
pub(crate) struct BodyCut;

/// A body does not have its announced length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum WrongLength {
    #[error("it is longer than announced")]
    TooLong,
    #[error("it ended after {sent} of {announced} bytes")]
    TooShort { sent: u64, announced: u64 },
}

/// Maximum number of body bytes per write.
const PIECE: usize = 64 * 1024;

/// Sends a body after its head. `read` returns the number of bytes it read, 0 at the end; `write`
/// takes all bytes it is given. An error from either aborts sending.
pub(crate) fn send<E: From<WrongLength>>(
    framing: Framing,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let announced = match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::Close => None,
    };
    let mut sent = 0;
    let mut buffer = vec![0; BEFORE + PIECE + BEHIND];
    loop {
        let count = read(&mut buffer[BEFORE..BEFORE + PIECE])?;
        sent += count as u64;
        if let Some(announced) = announced {
            if sent > announced {
                return Err(WrongLength::TooLong.into());
            }
            if count == 0 && sent < announced {
                return Err(WrongLength::TooShort { sent, announced }.into());
            }
            // The last piece makes the body look complete to the receiver, so check first that it
            // is.
            if count > 0 && sent == announced && read(&mut [0])? > 0 {
                return Err(WrongLength::TooLong.into());
            }
        }
        match (count, framing) {
            (0, Framing::Chunked) => return write(chunked::LAST),
            (0, _) => return Ok(()),
            (_, Framing::Chunked) => write(chunked::encode(&mut buffer, count))?,
            (_, _) => write(&buffer[BEFORE..BEFORE + count])?,
        }
        if announced == Some(sent) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a body that arrives in these pieces; returns the output and the result.
    fn sent(framing: Framing, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), WrongLength>) {
        let mut pieces = pieces.iter();
        let mut bytes = Vec::new();
        let read = |buffer: &mut [u8]| {
            let piece = pieces.next().copied().unwrap_or_default();
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            Ok(count)
        };
        let write = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let end = send(framing, read, write);
        (bytes, end)
    }

    #[test]
    fn a_body_is_framed_as_announced() {
        let cases: [(Framing, &[u8]); 3] = [
            (Framing::Length(5), b"abcde"),
            (Framing::Close, b"abcde"),
            (Framing::Chunked, b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
        ];
        for (framing, expected) in cases {
            assert_eq!(sent(framing, &[b"ab", b"cde"]), (expected.to_vec(), Ok(())), "{framing:?}");
        }
        assert_eq!(sent(Framing::None, &[]), (Vec::new(), Ok(())));
        assert_eq!(sent(Framing::Length(0), &[]), (Vec::new(), Ok(())));
    }

    #[test]
    fn a_body_of_another_length_never_looks_whole() {
        let (bytes, end) = sent(Framing::Length(5), &[b"ab", b"c"]);
        assert_eq!(
            (bytes.as_slice(), end),
            (&b"abc"[..], Err(WrongLength::TooShort { sent: 3, announced: 5 }))
        );
        for pieces in [&[&b"ab"[..], b"cdef"][..], &[&b"ab"[..], b"cde", b"f"][..]] {
            let (bytes, end) = sent(Framing::Length(5), pieces);
            assert_eq!((bytes.as_slice(), end), (&b"ab"[..], Err(WrongLength::TooLong)));
        }
        assert_eq!(sent(Framing::None, &[b"a"]), (Vec::new(), Err(WrongLength::TooLong)));
    }

    #[test]
    fn a_body_is_taken_out_of_the_bytes_around_it() {
        let cases: [(Framing, &[u8], usize); 3] = [
            (Framing::Length(5), b"abcdeGET", 3),
            (Framing::Chunked, b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\nGET", 3),
            (Framing::Close, b"abcde", 0),
        ];
        for (framing, bytes, rest) in cases {
            let mut decoder = BodyDecoder::new(framing);
            let mut body = [0; 16];
            let (used, count) = decoder.feed(bytes, &mut body).unwrap();
            assert_eq!((&body[..count], bytes.len() - used), (&b"abcde"[..], rest), "{framing:?}");
            assert_eq!(decoder.is_done(), framing != Framing::Close);
            assert_eq!(decoder.end(), Ok(()));
            assert!(decoder.is_done());
        }
        for framing in [Framing::Length(5), Framing::Chunked] {
            assert_eq!(BodyDecoder::new(framing).end(), Err(BodyCut));
        }
        assert!(BodyDecoder::new(Framing::None).is_done());
    }
}
