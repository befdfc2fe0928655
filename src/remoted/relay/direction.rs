//! One direction of a pair: from one stream to the other, until its end was passed on.

use std::io::{self, Read, Write};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::remoted::pool::{self, SplicePipe};
use crate::remoted::stream::Stream;

/// The state of one direction.
pub(super) struct Direction {
    held: Held,
    /// The sender has ended.
    ended: bool,
    /// The end was passed on to the receiver.
    pub is_done: bool,
    /// Bytes that the receiver accepted.
    pub moved: u64,
    /// The operating system cannot splice these two.
    copies: bool,
    /// Reading may return something.
    pub may_read: bool,
    /// Writing may accept something.
    pub may_write: bool,
}

/// Bytes that were read and not written yet.
enum Held {
    Nothing,
    /// The bytes from `at` to `end`.
    Bytes {
        buffer: Vec<u8>,
        at: usize,
        end: usize,
    },
    /// The number of bytes, which never enter this process.
    Spliced {
        pipe: SplicePipe,
        count: usize,
    },
}

/// The end of a direction that failed.
pub(super) enum DirectionError {
    Reading(io::Error),
    Writing(io::Error),
}

impl Direction {
    pub fn new() -> Self {
        Self {
            held: Held::Nothing,
            ended: false,
            is_done: false,
            moved: 0,
            copies: false,
            may_read: true,
            may_write: true,
        }
    }

    /// Whether it waits for the sender.
    pub fn wants_read(&self) -> bool {
        matches!(self.held, Held::Nothing) && !self.ended
    }

    /// Whether it waits for the receiver.
    pub fn wants_write(&self) -> bool {
        !self.is_done && !self.wants_read()
    }

    /// Moves what it can without blocking. True if anything moved.
    pub fn step(&mut self, from: &mut Stream, to: &mut Stream) -> Result<bool, DirectionError> {
        let mut has_moved = false;
        if self.wants_read() && self.may_read {
            has_moved |= unless_blocked(self.fill(from, to), &mut self.may_read)?;
        }
        if self.wants_write() && self.may_write {
            let written = self.drain(to).map_err(DirectionError::Writing);
            has_moved |= unless_blocked(written, &mut self.may_write)?;
        }
        Ok(has_moved)
    }

    fn fill(&mut self, from: &mut Stream, to: &Stream) -> Result<(), DirectionError> {
        if !self.copies
            && let (Some(source), Some(_)) = (from.plain(), to.plain())
            // Falls back to a buffer if there is no descriptor for a pipe.
            && let Ok(pipe) = pool::pipe()
        {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match splice(source, None, &pipe.input, None, pool::BUFFER_BYTES, flags) {
                Ok(0) => {
                    pool::return_pipe(pipe);
                    self.ended = true;
                }
                Ok(count) => self.held = Held::Spliced { pipe, count },
                Err(errno) => {
                    pool::return_pipe(pipe);
                    if errno != Errno::INVAL {
                        return Err(DirectionError::Reading(errno.into()));
                    }
                    self.copies = true;
                }
            }
            return Ok(());
        }
        let mut buffer = pool::buffer();
        match from.read(&mut buffer) {
            Ok(0) => {
                pool::return_buffer(buffer);
                self.ended = true;
            }
            Ok(end) => self.held = Held::Bytes { buffer, at: 0, end },
            Err(error) => {
                pool::return_buffer(buffer);
                return Err(DirectionError::Reading(error));
            }
        }
        Ok(())
    }

    /// Writes held bytes, or passes the end on.
    fn drain(&mut self, to: &mut Stream) -> io::Result<()> {
        match &mut self.held {
            Held::Nothing => {
                to.flush()?;
                to.close_writing()?;
                self.is_done = true;
            }
            Held::Bytes { buffer, at, end } => {
                let count = to.write(&buffer[*at..*end])?;
                self.moved += count as u64;
                *at += count;
                if at == end
                    && let Held::Bytes { buffer, .. } =
                        std::mem::replace(&mut self.held, Held::Nothing)
                {
                    pool::return_buffer(buffer);
                }
            }
            Held::Spliced { pipe, count } => {
                let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                let written = loop {
                    match splice(&pipe.output, None, to.output(), None, *count, flags) {
                        Err(Errno::INTR) => {}
                        other => break other?,
                    }
                };
                self.moved += written as u64;
                *count -= written;
                if *count == 0
                    && let Held::Spliced { pipe, .. } =
                        std::mem::replace(&mut self.held, Held::Nothing)
                {
                    pool::return_pipe(pipe);
                }
            }
        }
        Ok(())
    }
}

/// True on success. If it would have blocked, `may` becomes false until poll(2) reports otherwise.
fn unless_blocked(
    result: Result<(), DirectionError>,
    may: &mut bool,
) -> Result<bool, DirectionError> {
    let is_blocked = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    match result {
        Ok(()) => Ok(true),
        Err(DirectionError::Reading(e) | DirectionError::Writing(e)) if is_blocked(&e) => {
            *may = false;
            Ok(false)
        }
        // Interrupted by a signal; the next step repeats it.
        Err(DirectionError::Reading(e)) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(fault) => Err(fault),
    }
}
