//! Encoding and decoding of frames and messages, and the bookkeeping that needs no I/O.
//!
//! In scope: the header, message bodies, ids, the table of outstanding requests. Not in scope:
//! sockets, threads, locks, clocks, logs; these belong to `link`.

mod bounds;
mod capabilities;
mod drain;
mod error;
mod frame;
mod goodbye;
mod message;
mod pending;
mod stream;
#[allow(missing_docs, clippy::all, rustdoc::all)]
#[rustfmt::skip]
mod pb;

pub use capabilities::{Capabilities, EXTENSIONS, Unsendable};
pub use drain::DrainNotice;
pub use error::WireError;
pub use frame::{
    Frame, FrameDecoder, FrameLimits, HEADER_BYTES, Kind, MAX_CHUNK, Piece, StreamSide,
};
pub use goodbye::{Goodbye, GoodbyeReason};
pub use message::{
    Heartbeat, Message, Payload, decode, encode_drain, encode_event, encode_goodbye,
    encode_heartbeat, encode_heartbeat_reply, encode_reply,
};
pub use pending::{PendingTable, RegisterError};
pub use stream::{
    CHUNK, Credit, FIRST_CREDIT, Window, decode_credit, decode_end, decode_reason,
    encode_chunk_header, encode_credit, encode_end, encode_reset, encode_stop,
};
