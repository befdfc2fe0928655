//! Bodies in pieces: their frames, and credit accounting.
//!
//! A body that does not fit into its event or reply follows it, under the same id. The sender may
//! send [`FIRST_CREDIT`] bytes before any grant, and then as many as the receiver grants; the
//! receiver grants more as its consumer reads. A body ends with a total, or with a reset and a
//! reason. The receiver may ask the sender to stop; the sender answers with an end or a reset,
//! unless it has sent one already.

use super::frame::{MAX_REASON, header};
use super::{Kind, Piece, StreamSide, WireError};

/// Bytes of a body that may be sent before the first grant.
pub const FIRST_CREDIT: u64 = 64 * 1024;
/// Maximum bytes of a body granted and not yet sent.
pub const MAX_CREDIT: u64 = 1 << 30;
/// Bytes in the chunks that we send: with its header, a chunk fills one TLS record.
pub const CHUNK: usize = super::MAX_CHUNK - super::HEADER_BYTES;

/// The sender's credit for a body.
#[derive(Debug)]
pub struct Credit {
    left: u64,
}

impl Credit {
    /// The initial credit.
    pub const fn begin() -> Self {
        Self { left: FIRST_CREDIT }
    }

    /// Bytes that may be sent.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Adds credit granted by the receiver.
    pub fn grant(&mut self, id: u32, count: u32) -> Result<(), WireError> {
        let left = self.left + u64::from(count);
        if count == 0 || left > MAX_CREDIT {
            return Err(WireError::TooMuchCredit(id));
        }
        self.left = left;
        Ok(())
    }

    /// Takes up to `count` bytes of credit. Returns the number taken.
    pub fn take(&mut self, count: usize) -> usize {
        let taken = self.left.min(count as u64);
        self.left -= taken;
        usize::try_from(taken).unwrap_or(count)
    }

    /// Returns credit that was taken and not used.
    pub fn give_back(&mut self, count: usize) {
        self.left += count as u64;
    }
}

/// The receiver's account of a body: bytes granted and received.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    came: u64,
    granted: u64,
    taken: u64,
}

impl Window {
    /// The initial window.
    pub const fn begin() -> Self {
        Self { came: 0, granted: FIRST_CREDIT, taken: 0 }
    }

    /// Records received bytes.
    pub fn receive(&mut self, id: u32, count: usize) -> Result<(), WireError> {
        self.came += count as u64;
        if self.came > self.granted { Err(WireError::BeyondCredit(id)) } else { Ok(()) }
    }

    /// Records consumed bytes. Returns the credit to grant, so that `size` bytes may be in transit;
    /// small grants are accumulated.
    pub fn take(&mut self, count: usize, size: u64) -> Option<u32> {
        self.taken += count as u64;
        let room = (self.taken + size).saturating_sub(self.granted);
        if room < size / 4 {
            return None;
        }
        self.granted += room;
        u32::try_from(room).ok().filter(|room| *room > 0)
    }

    /// Checks the total stated by the end of the body.
    pub const fn end(&self, id: u32, stated: u64) -> Result<(), WireError> {
        if stated == self.came {
            Ok(())
        } else {
            Err(WireError::WrongTotal { id, stated, came: self.came })
        }
    }
}

/// Makes a chunk of a body out of `frame`, which has the chunk's bytes behind room for the header.
pub fn encode_chunk_header(side: StreamSide, id: u32, frame: &mut [u8]) {
    let length = frame.len().saturating_sub(super::HEADER_BYTES);
    if let Some(room) = frame.get_mut(..super::HEADER_BYTES) {
        room.copy_from_slice(&header(Kind::Stream(Piece::Chunk, side), length, id));
    }
}

/// The end of a body with this total.
pub fn encode_end(side: StreamSide, id: u32, total: u64) -> Vec<u8> {
    frame(Piece::End, side, id, &total.to_be_bytes())
}

/// A grant of this many more bytes.
pub fn encode_credit(side: StreamSide, id: u32, count: u32) -> Vec<u8> {
    frame(Piece::Credit, side, id, &count.to_be_bytes())
}

/// The end of a body that stays incomplete.
pub fn encode_reset(side: StreamSide, id: u32, reason: &str) -> Vec<u8> {
    frame(Piece::Reset, side, id, cut(reason).as_bytes())
}

/// A request to stop sending a body, or not to reply.
pub fn encode_stop(side: StreamSide, id: u32, reason: &str) -> Vec<u8> {
    frame(Piece::Stop, side, id, cut(reason).as_bytes())
}

/// The total of an end.
pub fn decode_end(body: &[u8]) -> Result<u64, WireError> {
    body.try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| WireError::Malformed("an end of odd length"))
}

/// The count of a grant.
pub fn decode_credit(body: &[u8]) -> Result<u32, WireError> {
    body.try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| WireError::Malformed("a grant of odd length"))
}

/// The reason of a reset or a stop.
pub fn decode_reason(body: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(body).map_err(|_| WireError::Malformed("text that is not UTF-8"))
}

fn frame(piece: Piece, side: StreamSide, id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(super::HEADER_BYTES + body.len());
    bytes.extend_from_slice(&header(Kind::Stream(piece, side), body.len(), id));
    bytes.extend_from_slice(body);
    bytes
}

/// Truncates a reason to [`MAX_REASON`] bytes.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FrameDecoder, FrameLimits};

    #[test]
    fn credit_is_spent_and_granted() {
        let mut credit = Credit::begin();
        assert_eq!(credit.take(60_000), 60_000);
        assert_eq!(credit.take(60_000), 5_536);
        assert_eq!(credit.take(1), 0);
        credit.grant(1, 10).unwrap();
        assert_eq!(credit.take(60_000), 10);
        assert_eq!(credit.grant(1, 0), Err(WireError::TooMuchCredit(1)));
        credit.grant(1, 1 << 30).unwrap();
        assert_eq!(credit.grant(1, 1), Err(WireError::TooMuchCredit(1)));
    }

    #[test]
    fn a_window_is_granted_again_as_it_is_taken() {
        let mut window = Window::begin();
        window.receive(1, 65_536).unwrap();
        assert_eq!(window.receive(1, 1), Err(WireError::BeyondCredit(1)));
        let mut window = Window::begin();
        window.receive(1, 65_536).unwrap();
        assert_eq!(window.take(10, 65_536), None, "too little to speak of");
        assert_eq!(window.take(16_374, 65_536), Some(16_384));
        assert_eq!(window.take(1, 262_144), Some(196_609), "it may grow");
        assert_eq!(window.end(1, 65_536), Ok(()));
        assert_eq!(
            window.end(1, 65_537),
            Err(WireError::WrongTotal { id: 1, stated: 65_537, came: 65_536 })
        );
    }

    #[test]
    fn every_frame_is_read_back() {
        let mut decoder = FrameDecoder::new(FrameLimits { max_data: 0 });
        let side = StreamSide::Answerer;
        for bytes in [
            {
                let mut chunk = vec![1; super::super::HEADER_BYTES + CHUNK];
                encode_chunk_header(side, 7, &mut chunk);
                chunk
            },
            encode_end(side, 7, 1 << 40),
            encode_credit(side, 7, 9),
            encode_reset(side, 7, &"ä".repeat(200)),
            encode_stop(side, 7, "enough"),
        ] {
            decoder.buffer().extend_from_slice(&bytes);
            let frame = decoder.next_frame().unwrap().unwrap();
            let Kind::Stream(piece, seen) = frame.kind else { panic!("{:?}", frame.kind) };
            assert_eq!((seen, frame.id), (side, 7));
            match piece {
                Piece::Chunk => assert_eq!(frame.body, [1; CHUNK]),
                Piece::End => assert_eq!(decode_end(frame.body), Ok(1 << 40)),
                Piece::Credit => assert_eq!(decode_credit(frame.body), Ok(9)),
                Piece::Reset => assert_eq!(decode_reason(frame.body), Ok("ä".repeat(128).as_str())),
                Piece::Stop => assert_eq!(decode_reason(frame.body), Ok("enough")),
            }
        }
        assert!(decode_end(&[0; 7]).is_err());
        assert!(decode_credit(&[0; 3]).is_err());
    }
}
