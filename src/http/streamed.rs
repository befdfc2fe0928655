//! An answer whose body arrives while it is written: each piece goes out as it comes.
//!
//! In scope: the framing of the pieces, and that a body which is not what it was announced to be is
//! never taken for a whole one. Not in scope: the head.

use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::event::Body;
use crate::event::pipe::Caller;
use crate::http::response_writer::write_all;
use crate::http1::body::{self, WrongLength};
use crate::http1::framing::Framing;

/// How often a body that gives nothing lets us look whether the caller is still there.
const CALLER_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How the writing of a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The caller has all of it.
    Whole,
    /// The caller can see that it has not, and this is why.
    Broken(String),
    /// The caller went away.
    Gone,
}

/// Writes a body behind its head. The socket's own timeout bounds the wait for a caller that takes
/// nothing; a body that gives nothing is waited for as long as the caller is there.
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

/// Why a body was not sent to its end.
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
