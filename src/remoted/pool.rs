//! Buffers and pipes that are borrowed only while bytes are in transit: a thousand joined and silent
//! connections hold none.
//!
//! In scope: lending them, and keeping returned ones. Not in scope: their use.

use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};

/// The size of a buffer, and the most bytes in a pipe: the back-pressure of one direction.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Maximum number of unused ones of each kind.
const MAX_SPARE: usize = 32;

/// A pipe of the operating system, empty when lent.
pub(super) struct SplicePipe {
    pub output: OwnedFd,
    pub input: OwnedFd,
}

/// Unused buffers. Held only to take or return one.
static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Unused pipes. Held only to take or return one.
static PIPES: Mutex<Vec<SplicePipe>> = Mutex::new(Vec::new());

/// [`BUFFER_BYTES`] bytes with arbitrary contents.
pub(super) fn buffer() -> Vec<u8> {
    take(&BUFFERS).unwrap_or_else(|| vec![0; BUFFER_BYTES])
}

pub(super) fn return_buffer(buffer: Vec<u8>) {
    if buffer.len() == BUFFER_BYTES {
        put_back(&BUFFERS, buffer);
    }
}

/// An empty non-blocking pipe.
pub(super) fn pipe() -> io::Result<SplicePipe> {
    if let Some(pipe) = take(&PIPES) {
        return Ok(pipe);
    }
    let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    Ok(SplicePipe { output, input })
}

/// Returns a pipe, which must be empty: its next user would read the remaining bytes.
pub(super) fn return_pipe(pipe: SplicePipe) {
    put_back(&PIPES, pipe);
}

fn take<T>(spare: &Mutex<Vec<T>>) -> Option<T> {
    spare.lock().pop()
}

fn put_back<T>(spare: &Mutex<Vec<T>>, thing: T) {
    let mut spare = spare.lock();
    if spare.len() < MAX_SPARE {
        spare.push(thing);
    }
}
