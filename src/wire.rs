//! Bytes to frames to messages and back, and the bookkeeping that needs no I/O.
//!
//! In scope: the header, the message bodies, ids, the table of outstanding requests. Not in scope:
//! sockets, threads, locks, clocks, logs; `link` has those.

mod bounds;
mod error;
mod frame;
mod goodbye;
mod leaving;
mod message;
mod pending;
mod stream;
mod terms;
#[allow(missing_docs, clippy::all, rustdoc::all)]
#[rustfmt::skip]
mod pb;

pub use error::WireError;
pub use frame::{Decoder, Frame, HEADER_BYTES, Kind, Limits, MAX_CHUNK, Piece, Side};
pub use goodbye::{Goodbye, GoodbyeReason};
pub use leaving::Leaving;
pub use message::{
    Heartbeat, Incoming, Payload, decode, encode_event, encode_goodbye, encode_heartbeat,
    encode_heartbeat_reply, encode_leaving, encode_reply,
};
pub use pending::{Pending, RegisterError};
pub use stream::{
    CHUNK, Credit, FIRST_CREDIT, Window, decode_credit, decode_end, decode_reason,
    encode_chunk_header, encode_credit, encode_end, encode_reset, encode_stop,
};
pub use terms::{EXTENSIONS, Refused, Terms};
