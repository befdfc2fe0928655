//! A response whose body is streamed: each piece is written as it arrives.
//!
//! In scope: framing the pieces, and ensuring that a body of the wrong length never looks complete.
//! Not in scope: the head.

use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::event::Body;
use crate::event::pipe::Caller;
use crate::http::response_writer::write_all;
use crate::http1::body::{self, WrongLength};
use crate::http1::framing::Framing;

/// How often to check whether the caller is still connected while the body yields nothing.
const CALLER_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How sending a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The whole body was sent.
    Whole,
    /// The body was cut off in a way the caller can detect, for this reason.
    Broken(String),
    /// The caller disconnected.
    Gone,
}

/// Writes a body after its head. The socket's own timeout limits the wait for a caller that does
/// not read; waiting for the body itself is limited only by the caller's presence.
pub(super) fn send(
    socket: &Socket,
    body: &mut Body,
    framing: Framing,
    caller: &dyn Caller,
) -> io::Result<Sent> {
    let sent = body::send(
        framing,
        |buffer| next(body, buffer, caller),
        |piece| write_all(socket, &[piece, &[]], None).map_err(Stopped::NotTaken),
    );
    match sent {
        Ok(()) => Ok(Sent::Whole),
        Err(Stopped::Broken(why)) => Ok(Sent::Broken(why)),
        Err(Stopped::CallerGone) => Ok(Sent::Gone),
        Err(Stopped::NotTaken(error)) => Err(error),
    }
}

/// Why a body was not sent completely.
enum Stopped {
    Broken(String),
    CallerGone,
    NotTaken(io::Error),
}

impl From<WrongLength> for Stopped {
    fn from(error: WrongLength) -> Self {
        Self::Broken(error.to_string())
    }
}

fn next(body: &mut Body, buffer: &mut [u8], caller: &dyn Caller) -> Result<usize, Stopped> {
    loop {
        match body.read_within(buffer, CALLER_POLL_INTERVAL) {
            Ok(Some(count)) => return Ok(count),
            Ok(None) if caller.is_gone() => return Err(Stopped::CallerGone),
            Ok(None) => {}
            Err(error) => return Err(Stopped::Broken(error.to_string())),
        }
    }
}
