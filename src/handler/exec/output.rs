//! The output of a streaming script, as the body of its reply.

use std::io;
use std::time::{Duration, Instant};

use super::error::{LogContext, ScriptError};
use super::run::{Run, Step};
use crate::event::Source;

/// A body that ends without error only if the script succeeds. Dropping it terminates the script.
pub(super) struct ScriptOutput {
    /// The output buffered when the reply started, and the read position in it.
    begun: Vec<u8>,
    at: usize,
    run: Run,
    /// The remaining bytes, if the script sent a `Content-Length`.
    left: Option<u64>,
    log_context: LogContext,
    is_done: bool,
}

impl ScriptOutput {
    /// Returns `begun` first, then what the run writes.
    pub fn new(begun: Vec<u8>, run: Run, length: Option<u64>, log_context: LogContext) -> Self {
        Self { begun, at: 0, run, left: length, log_context, is_done: false }
    }

    fn next(&mut self, buffer: &mut [u8], until: Instant) -> Result<Option<usize>, ScriptError> {
        let begun = &self.begun[self.at..];
        let count = if !begun.is_empty() {
            let count = begun.len().min(buffer.len());
            buffer[..count].copy_from_slice(&begun[..count]);
            self.at += count;
            count
        } else if self.is_done {
            return Ok(Some(0));
        } else {
            match self.run.step(buffer, until)? {
                Step::Bytes(count) => count,
                Step::Nothing => return Ok(None),
                Step::Ended => {
                    self.is_done = true;
                    0
                }
            }
        };
        if let Some(left) = &mut self.left {
            let is_wrong = if count == 0 { *left > 0 } else { count as u64 > *left };
            if is_wrong {
                return Err(ScriptError::Length);
            }
            *left -= count as u64;
        }
        Ok(Some(count))
    }
}

impl Source for ScriptOutput {
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        self.next(buffer, Instant::now() + timeout).map_err(|error| {
            log::warn!(
                "{}: {}; the reply had begun and is cut short",
                self.log_context,
                error.log_line(&self.run.stderr_tail())
            );
            io::Error::other(format!("the script failed: {error}"))
        })
    }
}
