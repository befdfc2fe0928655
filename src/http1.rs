//! HTTP/1: how messages are delimited (RFC 9112).
//!
//! In scope: bytes in, heads and bodies out, and the framing around bodies that are sent. Not in
//! scope: what a message means. All but [`input`], a buffered reader on a blocking socket, is free of
//! sockets, clocks and threads.
//!
//! What is accepted as a head is a [`Profile`](head::Profile) per caller, and limits are arguments: one
//! lenient reader for all is where request smuggling gets in.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod input;
