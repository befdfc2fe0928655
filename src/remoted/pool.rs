//! Buffers and pipes that are held only while bytes are on their way: of a thousand connections
//! that are joined and silent, none holds any.
//!
//! In scope: lending and taking back. Not in scope: what is done with them.

use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};

/// Bytes of a buffer, and of what a pipe is filled with: the back-pressure of one direction.
pub(super) const SIZE: usize = 64 * 1024;

/// Most spare ones of a kind.
const MAX_SPARE: usize = 32;

/// A pipe of the operating system, empty when lent.
pub(super) struct Pipe {
    pub output: OwnedFd,
    pub input: OwnedFd,
}

/// Guards the spare ones; nothing is done while it is held.
static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// The same.
static PIPES: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// [`SIZE`] bytes of any value.
pub(super) fn buffer() -> Vec<u8> {
    take(&BUFFERS).unwrap_or_else(|| vec![0; SIZE])
}

/// Takes a buffer back.
pub(super) fn give_back_buffer(buffer: Vec<u8>) {
    if buffer.len() == SIZE {
        give_back(&BUFFERS, buffer);
    }
}

/// An empty pipe that never blocks.
pub(super) fn pipe() -> io::Result<Pipe> {
    if let Some(pipe) = take(&PIPES) {
        return Ok(pipe);
    }
    let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    Ok(Pipe { output, input })
}

/// Takes a pipe back, which must be empty: whoever has it next would read what is left.
pub(super) fn give_back_pipe(pipe: Pipe) {
    give_back(&PIPES, pipe);
}

fn take<T>(spare: &Mutex<Vec<T>>) -> Option<T> {
    spare.lock().pop()
}

fn give_back<T>(spare: &Mutex<Vec<T>>, thing: T) {
    let mut spare = spare.lock();
    if spare.len() < MAX_SPARE {
        spare.push(thing);
    }
}
