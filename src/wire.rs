//! Bytes to frames to messages and back, and the bookkeeping that needs no I/O.
//!
//! In scope: the header, the message bodies, ids, the table of outstanding requests. Not in scope:
//! sockets, threads, locks, clocks, logs; `link` has those.

mod bounds;
mod error;
mod frame;
mod goodbye;
mod message;
mod pending;
#[allow(missing_docs, clippy::all, rustdoc::all)]
#[rustfmt::skip]
mod pb;

pub use error::WireError;
pub use frame::{Decoder, Frame, HEADER_BYTES, Kind, Limits};
pub use goodbye::{Goodbye, GoodbyeReason};
pub use message::{
    EXTENSIONS, Heartbeat, Incoming, Refused, Terms, decode, encode_event, encode_goodbye,
    encode_heartbeat, encode_heartbeat_reply, encode_reply,
};
pub use pending::{Pending, RegisterError};
