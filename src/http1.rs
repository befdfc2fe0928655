//! HTTP/1: how messages are delimited (RFC 9112).
//!
//! In scope: bytes in, heads and bodies out, and the framing of bodies that are sent. Not in scope:
//! the meaning of a message. Everything except [`input`], a buffered reader on a blocking socket,
//! is free of sockets, clocks and threads.
//!
//! Each user selects a [`Profile`](head::Profile) for the heads it accepts, and passes limits as
//! arguments: a single lenient parser for all of them would invite request smuggling.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod input;
