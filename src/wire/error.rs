//! Protocol violations. Each of them closes the link.

use std::fmt;

/// A protocol violation by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The header has an unknown message type.
    UnknownType(u8),
    /// The flags are not 0.
    Flags(u8),
    /// A body exceeds the limit.
    TooLong {
        /// The length that the header announced, in bytes.
        length: usize,
        /// The limit in bytes.
        most: usize,
    },
    /// The body is not valid protobuf for its type; the text says where decoding failed.
    Malformed(&'static str),
    /// A version other than 1.
    Version(u32),
    /// An event reuses the id of one that is still being handled.
    DuplicateId(u32),
    /// A frame belongs to a body that never began or has ended.
    NoSuchStream(u32),
    /// A body exceeds its granted credit.
    BeyondCredit(u32),
    /// The granted credit exceeds the maximum.
    TooMuchCredit(u32),
    /// A body ends with a wrong total.
    WrongTotal {
        /// The id of its event.
        id: u32,
        /// The stated total in bytes.
        stated: u64,
        /// The received bytes.
        came: u64,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(kind) => write!(f, "message of unknown type 0x{kind:02x}"),
            Self::Flags(flags) => write!(f, "message with unknown flags 0x{flags:02x}"),
            Self::TooLong { length, most } => {
                write!(f, "message of {length} bytes announced, the most is {most}")
            }
            Self::Malformed(what) => write!(f, "malformed message: {what}"),
            Self::Version(version) => write!(f, "message of unknown version {version}"),
            Self::NoSuchStream(id) => {
                write!(f, "a piece of the body of {id}, which was never begun or has ended")
            }
            Self::BeyondCredit(id) => write!(f, "more bytes of the body of {id} than were granted"),
            Self::TooMuchCredit(id) => write!(f, "grants for the body of {id} that overflow"),
            Self::WrongTotal { id, stated, came } => {
                write!(f, "the body of {id} ends after {came} bytes, but states {stated}")
            }
            Self::DuplicateId(id) => write!(f, "event with id {id} while that id is in use"),
        }
    }
}

impl std::error::Error for WireError {}
