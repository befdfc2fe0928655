//! Buffers and pipes that are held only while bytes are on their way: of a thousand connections that are
//! joined and silent, none holds any.
//!
//! In scope: lending them, and keeping returned ones. Not in scope: what is done with them.

use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};

/// Bytes of a buffer, and of what a pipe is filled with: the back-pressure of one direction.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Most unused ones of a kind.
const MAX_SPARE: usize = 32;

/// A pipe of the operating system, empty when lent.
pub(super) struct SplicePipe {
    pub output: OwnedFd,
    pub input: OwnedFd,
}

/// Guards the unused ones; nothing else is done while it is held.
static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// The same.
static PIPES: Mutex<Vec<SplicePipe>> = Mutex::new(Vec::new());

/// [`BUFFER_BYTES`] bytes of any value.
pub(super) fn buffer() -> Vec<u8> {
    take(&BUFFERS).unwrap_or_else(|| vec![0; BUFFER_BYTES])
}

/// Returns a buffer.
pub(super) fn return_buffer(buffer: Vec<u8>) {
    if buffer.len() == BUFFER_BYTES {
        put_back(&BUFFERS, buffer);
    }
}

/// An empty pipe that never blocks.
pub(super) fn pipe() -> io::Result<SplicePipe> {
    if let Some(pipe) = take(&PIPES) {
        return Ok(pipe);
    }
    let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    Ok(SplicePipe { output, input })
}

/// Returns a pipe, which must be empty: its next user would read what is left.
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
