//! The end of a child's standard error.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::ChildStderr;

use super::pipes::read_available;

/// Maximum number of bytes per call of `drain`. It is the capacity of a pipe: a child
/// that never stops writing must not block its reader here.
const MAX_DRAIN: usize = 64 * 1024;
/// Size of one read.
const READ_SIZE: usize = 4 * 1024;

/// Keeps the last bytes, and discards earlier ones so that the child does not block.
pub(crate) struct StderrTail {
    pipe: Option<ChildStderr>,
    tail: Vec<u8>,
    max: usize,
}

impl StderrTail {
    /// Keeps at most `max` bytes.
    pub fn new(pipe: Option<ChildStderr>, max: usize) -> Self {
        Self { pipe, tail: Vec::new(), max }
    }

    /// The pipe, until the child closes it.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is available.
    pub fn drain(&mut self) {
        let mut buffer = [0; READ_SIZE];
        for _ in 0..MAX_DRAIN / READ_SIZE {
            let Some(pipe) = &mut self.pipe else { return };
            match read_available(pipe, &mut buffer) {
                Ok(Some(count)) if count > 0 => {
                    self.tail.extend_from_slice(&buffer[..count]);
                    let beyond = self.tail.len().saturating_sub(self.max);
                    self.tail.drain(..beyond);
                }
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => self.pipe = None,
            }
        }
    }

    /// The last bytes so far, trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
    }
}
