//! The 10-byte header, and splitting a byte stream into frames.

use super::WireError;

/// Length of a header: type u8, flags u8, body length u32, message id u32, in network byte order.
pub const HEADER_BYTES: usize = 10;

/// Maximum body of a heartbeat or heartbeat reply. Ours have under 20 bytes; the rest is reserved
/// for fields of later versions.
const MAX_HEARTBEAT: usize = 1024;
/// Maximum size of an event or reply besides its data: noun, target, headers.
const MAX_AROUND_DATA: usize = 64 * 1024;
/// Maximum bytes in a chunk.
pub const MAX_CHUNK: usize = 16 * 1024;
/// Maximum bytes in a reason.
pub(super) const MAX_REASON: usize = 256;
/// A buffer that grew beyond this size for a long message is freed once it is empty.
const KEPT_BUFFER: usize = 256 * 1024;

/// Message types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0x01: a heartbeat.
    Heartbeat,
    /// 0x02: a request.
    Event,
    /// 0x80: the reply to a heartbeat.
    HeartbeatReply,
    /// 0x81: the reply to an event.
    EventReply,
    /// 0x03 to 0x07 and 0x83 to 0x87: frames about a body in pieces. The side that sent the event
    /// uses the low range, the side that answers it the high one.
    Stream(Piece, StreamSide),
}

/// Who sends a stream frame, and therefore whose id it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamSide {
    /// The side that sent the event.
    Asker,
    /// The side that answers it.
    Answerer,
}

/// The content of a stream frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// 0x03: bytes of the sender's body.
    Chunk,
    /// 0x04: the sender's body is complete; carries its total length.
    End,
    /// 0x05: the sender's body remains incomplete.
    Reset,
    /// 0x06: the sender grants this many more bytes of the receiver's body.
    Credit,
    /// 0x07: the sender wants no more of the receiver's body, or no reply at all.
    Stop,
}

impl Piece {
    const ALL: [Self; 5] = [Self::Chunk, Self::End, Self::Reset, Self::Credit, Self::Stop];

    const fn byte(self) -> u8 {
        match self {
            Self::Chunk => 0x03,
            Self::End => 0x04,
            Self::Reset => 0x05,
            Self::Credit => 0x06,
            Self::Stop => 0x07,
        }
    }
}

impl Kind {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Heartbeat => 0x01,
            Self::Event => 0x02,
            Self::HeartbeatReply => 0x80,
            Self::EventReply => 0x81,
            Self::Stream(piece, StreamSide::Asker) => piece.byte(),
            Self::Stream(piece, StreamSide::Answerer) => 0x80 | piece.byte(),
        }
    }

    fn parse(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Heartbeat),
            0x02 => Some(Self::Event),
            0x80 => Some(Self::HeartbeatReply),
            0x81 => Some(Self::EventReply),
            _ => {
                let side = if byte < 0x80 { StreamSide::Asker } else { StreamSide::Answerer };
                let piece = Piece::ALL.into_iter().find(|piece| piece.byte() == byte & 0x7f);
                piece.map(|piece| Self::Stream(piece, side))
            }
        }
    }
}

/// Message size limits.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Maximum bytes of data in an event or reply.
    pub max_data: usize,
}

impl FrameLimits {
    const fn max_body(self, kind: Kind) -> usize {
        match kind {
            Kind::Heartbeat | Kind::HeartbeatReply => MAX_HEARTBEAT,
            Kind::Event | Kind::EventReply => self.max_data + MAX_AROUND_DATA,
            Kind::Stream(Piece::Chunk, _) => MAX_CHUNK,
            Kind::Stream(Piece::End, _) => 8,
            Kind::Stream(Piece::Credit, _) => 4,
            Kind::Stream(Piece::Reset | Piece::Stop, _) => MAX_REASON,
        }
    }
}

/// One encoded message.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: Kind,
    /// Its id; a reply has the id of the message that it answers.
    pub id: u32,
    /// The protobuf message.
    pub body: &'a [u8],
}

/// Encodes a message header.
pub(super) fn header(kind: Kind, length: usize, id: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = kind.byte();
    // Cannot truncate: lengths are limited to far below u32::MAX before encoding.
    header[2..6].copy_from_slice(&(length as u32).to_be_bytes());
    header[6..10].copy_from_slice(&id.to_be_bytes());
    header
}

/// Collects bytes and returns whole frames. A length is checked against its limit as soon as the
/// header has arrived, and memory grows only with received bytes.
pub struct FrameDecoder {
    limits: FrameLimits,
    buffer: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// An empty decoder.
    pub const fn new(limits: FrameLimits) -> Self {
        Self { limits, buffer: Vec::new(), start: 0 }
    }

    /// The buffer to append received bytes to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            if self.buffer.capacity() > KEPT_BUFFER {
                self.buffer = Vec::new();
            }
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
        &mut self.buffer
    }

    /// The next whole frame, or `None` until more bytes arrive.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        let Some((header, rest)) = self.buffer[self.start..].split_first_chunk::<HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let [kind, flags, l0, l1, l2, l3, i0, i1, i2, i3] = *header;
        let kind = Kind::parse(kind).ok_or(WireError::UnknownType(kind))?;
        if flags != 0 {
            return Err(WireError::Flags(flags));
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let most = self.limits.max_body(kind);
        if length > most {
            return Err(WireError::TooLong { length, most });
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        self.start += HEADER_BYTES + length;
        Ok(Some(Frame { kind, id: u32::from_be_bytes([i0, i1, i2, i3]), body }))
    }

    /// Whether the buffer holds an incomplete frame.
    pub fn is_mid_frame(&self) -> bool {
        self.start < self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: [u8; 12] = [1, 0, 0, 0, 0, 2, 0xf7, 7, 0x4d, 0xe5, 8, 1];

    fn decoder() -> FrameDecoder {
        FrameDecoder::new(FrameLimits { max_data: 100 })
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let two = [HEARTBEAT, HEARTBEAT].concat();
        for cut in 0..two.len() {
            let mut decoder = decoder();
            let mut seen = 0;
            for part in [&two[..cut], &two[cut..]] {
                decoder.buffer().extend_from_slice(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    assert_eq!(
                        frame,
                        Frame { kind: Kind::Heartbeat, id: 0xf7074de5, body: &[8, 1] }
                    );
                    seen += 1;
                }
            }
            assert_eq!(seen, 2, "cut at {cut}");
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn a_length_is_refused_with_its_header() {
        let mut decoder = decoder();
        decoder.buffer().extend_from_slice(&[2, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
        let most = 100 + MAX_AROUND_DATA;
        assert_eq!(decoder.next_frame(), Err(WireError::TooLong { length: 0xffff_ffff, most }));
    }

    #[test]
    fn the_frames_of_a_stream_have_their_own_limits() {
        for (kind, most) in [(3, MAX_CHUNK), (0x84, 8), (5, MAX_REASON), (0x86, 4), (7, MAX_REASON)]
        {
            let mut decoder = decoder();
            decoder.buffer().extend_from_slice(&[kind, 0]);
            decoder.buffer().extend_from_slice(&(most as u32 + 1).to_be_bytes());
            decoder.buffer().extend_from_slice(&[0, 0, 0, 1]);
            assert_eq!(decoder.next_frame(), Err(WireError::TooLong { length: most + 1, most }));
        }
    }

    #[test]
    fn a_heartbeat_may_not_be_long() {
        let mut decoder = decoder();
        decoder.buffer().extend_from_slice(&[1, 0, 0, 0, 4, 1, 0, 0, 0, 1]);
        assert_eq!(decoder.next_frame(), Err(WireError::TooLong { length: 1025, most: 1024 }));
    }

    #[test]
    fn unknown_types_and_flags_are_refused() {
        for (bytes, error) in [
            ([8, 0, 0, 0, 0, 0, 0, 0, 0, 1], WireError::UnknownType(8)),
            ([1, 1, 0, 0, 0, 0, 0, 0, 0, 1], WireError::Flags(1)),
        ] {
            let mut decoder = decoder();
            decoder.buffer().extend_from_slice(&bytes);
            assert_eq!(decoder.next_frame(), Err(error));
        }
    }

    #[test]
    fn memory_of_a_long_message_is_given_back() {
        let mut decoder = FrameDecoder::new(FrameLimits { max_data: 1 << 20 });
        decoder.buffer().extend_from_slice(&header(Kind::Event, 1 << 20, 1));
        decoder.buffer().resize(HEADER_BYTES + (1 << 20), 0);
        assert!(decoder.next_frame().unwrap().is_some());
        assert_eq!(decoder.buffer().capacity(), 0);
    }
}
