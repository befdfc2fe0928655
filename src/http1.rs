//! HTTP/1: how messages are delimited (RFC 9112).
//!
//! In scope: bytes in, heads and bodies out. Not in scope: sockets, clocks, threads.

pub(crate) mod chunked;
