//! An answer whose body arrives while it is written: each piece goes out as it comes.
//!
//! In scope: the framing of the pieces, and that a body which is not what it was announced to be is
//! never taken for a whole one. Not in scope: the head.

use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::event::Body;
use crate::event::pipe::Caller;
use crate::http::output::{Announced, write_all};
use crate::http1::chunked::{self, BEFORE, BEHIND};

/// Most bytes of one piece.
const PIECE: usize = 64 * 1024;
/// How often a body that gives nothing lets us look whether the caller is still there.
const LOOK: Duration = Duration::from_millis(250);

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
    announced: Announced,
    caller: &dyn Caller,
) -> io::Result<Sent> {
    let mut buffer = vec![0; BEFORE + PIECE + BEHIND];
    let mut left = match announced {
        Announced::Length(length) => length,
        Announced::Chunked | Announced::Nothing => u64::MAX,
    };
    loop {
        let count = match next(body, &mut buffer[BEFORE..BEFORE + PIECE], caller) {
            Next::Bytes(count) => count,
            Next::Stop(sent) => return Ok(sent),
        };
        if count == 0 {
            break;
        }
        if count as u64 > left {
            return Ok(Sent::Broken("it is longer than it was said to be".to_owned()));
        }
        left -= count as u64;
        // The last piece of a known length makes the body whole in the caller's eyes: only once it
        // is.
        if left == 0 {
            match next(body, &mut [0; 1], caller) {
                Next::Bytes(0) => {}
                Next::Bytes(_) => {
                    return Ok(Sent::Broken("it is longer than it was said to be".to_owned()));
                }
                Next::Stop(sent) => return Ok(sent),
            }
        }
        let piece = match announced {
            Announced::Chunked => chunked::encode(&mut buffer, count),
            Announced::Length(_) | Announced::Nothing => &buffer[BEFORE..BEFORE + count],
        };
        write_all(socket, &[piece, &[]], None)?;
        if left == 0 {
            return Ok(Sent::Whole);
        }
    }
    match announced {
        Announced::Length(length) if left > 0 => {
            return Ok(Sent::Broken(format!("it ended after {} of {length} bytes", length - left)));
        }
        Announced::Chunked => write_all(socket, &[b"0\r\n\r\n", &[]], None)?,
        Announced::Length(_) | Announced::Nothing => {}
    }
    Ok(Sent::Whole)
}

enum Next {
    /// So many; none at the end.
    Bytes(usize),
    Stop(Sent),
}

fn next(body: &mut Body, buffer: &mut [u8], caller: &dyn Caller) -> Next {
    loop {
        match body.read_within(buffer, LOOK) {
            Ok(Some(count)) => return Next::Bytes(count),
            Ok(None) if caller.is_gone() => return Next::Stop(Sent::Gone),
            Ok(None) => {}
            Err(e) => return Next::Stop(Sent::Broken(e.to_string())),
        }
    }
}
