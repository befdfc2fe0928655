//! What can be sent to a peer, given what it has announced, and why something cannot.

use std::fmt;

use crate::event::MAX_MEDIA_TYPE;

/// This program's extensions to the original protocol, as announced in heartbeats.
pub const EXTENSIONS: u32 = EXTENDED | STREAMS | LEAVING;
/// Fields numbered 16 and above, 8-bit data, several messages per TLS record.
const EXTENDED: u32 = 1;
/// Bodies in pieces.
const STREAMS: u32 = 2;
/// The heartbeat fields `leaving_ms` and `settled`.
const LEAVING: u32 = 4;

/// What can be sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the peer knows fields numbered 16 and above. Otherwise only 7-bit data may be sent,
    /// and only one message per TLS record.
    pub extended: bool,
    /// Whether the peer accepts bodies in pieces.
    pub streams: bool,
    /// Whether this node announces its shutdown to the peer.
    pub drain: bool,
    /// Maximum bytes of data that the peer accepts.
    pub max_data: usize,
}

impl Capabilities {
    /// The capabilities of a peer that announced these values. `own_max` applies if it named no
    /// limit.
    pub fn announced(extensions: u32, max_data: Option<u32>, own_max: usize) -> Self {
        let has = |bits| extensions & bits == bits;
        Self {
            extended: extensions & EXTENDED != 0,
            streams: has(EXTENDED | STREAMS),
            drain: has(EXTENDED | LEAVING),
            max_data: max_data.map_or(own_max, |max| max as usize),
        }
    }

    /// The capabilities of a peer that has announced nothing yet.
    pub const fn original(own_max: usize) -> Self {
        Self { extended: false, streams: false, drain: false, max_data: own_max }
    }

    /// Checks whether a message with these parts, named for error texts, and this data can be sent.
    pub(super) fn admit(
        self,
        parts: &[(&'static str, &[u8])],
        data: &[u8],
    ) -> Result<(), Unsendable> {
        if data.len() > self.max_data {
            return Err(Unsendable::TooLarge { length: data.len(), most: self.max_data });
        }
        if !self.extended
            && let Some((what, _)) = parts.iter().find(|(_, bytes)| !bytes.is_ascii())
        {
            return Err(Unsendable::NotSevenBit(what));
        }
        Ok(())
    }
}

/// Why a message cannot be sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The peer is an original RestPipe, which would crash on bytes above 127, and this part (path,
    /// media type, body) contains some.
    NotSevenBit(&'static str),
    /// The peer is an original RestPipe, which does not tunnel connections.
    NoConnections,
    /// A header is none, or there are too many, or they are too long. None that came by HTTP is.
    Headers,
    /// The media type is too long.
    LongMediaType,
    /// The body exceeds the peer's limit.
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The peer's limit in bytes.
        most: usize,
    },
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSevenBit(what) => {
                write!(f, "{what} has bytes that an original RestPipe cannot take")
            }
            Self::NoConnections => write!(f, "an original RestPipe carries no connections"),
            Self::Headers => {
                write!(f, "its headers cannot be sent, or are too many or too long")
            }
            Self::LongMediaType => {
                write!(f, "a media type of more than {MAX_MEDIA_TYPE} bytes is not carried")
            }
            Self::TooLarge { length, most } => {
                write!(f, "a body of {length} bytes is more than the peer takes ({most})")
            }
        }
    }
}
