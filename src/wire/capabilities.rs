//! What may be said to a peer, by what it has announced; and why something cannot be.

use std::fmt;

/// What this program understands beside the original's messages, as announced in heartbeats.
pub const EXTENSIONS: u32 = EXTENDED | STREAMS | LEAVING;
/// Fields from 16 on, any bytes, several messages in a record.
const EXTENDED: u32 = 1;
/// Bodies in pieces.
const STREAMS: u32 = 2;
/// `leaving_ms` and `settled`.
const LEAVING: u32 = 4;

/// What may be said to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the peer has announced that it knows the fields from 16 on. Towards one that has not:
    /// 7-bit data only, and one message to a TLS record.
    pub extended: bool,
    /// Whether it takes bodies in pieces.
    pub streams: bool,
    /// Whether this node announces its stop to it.
    pub drain: bool,
    /// Most bytes of data it takes.
    pub max_data: usize,
}

impl Capabilities {
    /// The capabilities for a peer that announced this. `own_max` holds where it named no limit.
    pub fn announced(extensions: u32, max_data: Option<u32>, own_max: usize) -> Self {
        let has = |bits| extensions & bits == bits;
        Self {
            extended: extensions & EXTENDED != 0,
            streams: has(EXTENDED | STREAMS),
            drain: has(EXTENDED | LEAVING),
            max_data: max_data.map_or(own_max, |max| max as usize),
        }
    }

    /// What holds before a peer has announced anything.
    pub const fn original(own_max: usize) -> Self {
        Self { extended: false, streams: false, drain: false, max_data: own_max }
    }

    /// Whether a message of these parts, named for people, and this data can be sent.
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
    /// The peer is an original RestPipe, and this (path, media type, body) has bytes above 127, on
    /// which it would die.
    NotSevenBit(&'static str),
    /// The peer is an original RestPipe, which carries no connections.
    NoConnections,
    /// The peer takes no body of this length.
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The longest that the peer takes.
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
            Self::TooLarge { length, most } => {
                write!(f, "a body of {length} bytes is more than the peer takes ({most})")
            }
        }
    }
}
