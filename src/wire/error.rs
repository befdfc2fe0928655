//! What a peer can do wrong on the wire. Each of them ends its link.

use std::fmt;

/// A peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The header names a message type that does not exist.
    UnknownType(u8),
    /// The flags are always 0.
    Flags(u8),
    /// A body longer than is taken.
    TooLong {
        /// The length that the header announced, in bytes.
        length: usize,
        /// The longest that is taken.
        most: usize,
    },
    /// The body is not the protobuf message its type says; the text says where it fails.
    Malformed(&'static str),
    /// A version other than 1.
    Version(u32),
    /// An event with the id of one that is still being handled.
    DuplicateId(u32),
    /// A frame of a body that was never begun or has ended.
    NoSuchStream(u32),
    /// More bytes of a body than were granted.
    BeyondCredit(u32),
    /// Grants that add up to more than a peer may grant.
    TooMuchCredit(u32),
    /// A body whose end states another total than was sent.
    WrongTotal {
        /// The id of its event.
        id: u32,
        /// The total that its end states, in bytes.
        stated: u64,
        /// The bytes that came.
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
