//! One direction of a pair: from one stream to the other, until the end was passed on.

use std::io::{self, Read, Write};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::remoted::pool::{self, Pipe};
use crate::remoted::stream::Stream;

/// Where bytes go, and what is on its way.
pub(super) struct Direction {
    held: Held,
    /// The sender has said that nothing more comes.
    ended: bool,
    /// And the receiver was told.
    pub is_done: bool,
    /// Bytes that the receiver took.
    pub moved: u64,
    /// The operating system does not splice these two.
    copies: bool,
    /// Reading may give something.
    pub may_read: bool,
    /// Writing may take something.
    pub may_write: bool,
}

/// Bytes that were read and not written yet.
enum Held {
    Nothing,
    /// From `at` to `end`.
    Bytes {
        buffer: Vec<u8>,
        at: usize,
        end: usize,
    },
    /// So many bytes, which never were in this process.
    Spliced {
        pipe: Pipe,
        count: usize,
    },
}

/// At which end of a direction something failed.
pub(super) enum Fault {
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

    /// Moves what can be moved now. True if anything was.
    pub fn step(&mut self, from: &mut Stream, to: &mut Stream) -> Result<bool, Fault> {
        let mut has_moved = false;
        if self.wants_read() && self.may_read {
            has_moved |= unless_blocked(self.fill(from, to), &mut self.may_read)?;
        }
        if self.wants_write() && self.may_write {
            let written = self.drain(to).map_err(Fault::Writing);
            has_moved |= unless_blocked(written, &mut self.may_write)?;
        }
        Ok(has_moved)
    }

    fn fill(&mut self, from: &mut Stream, to: &Stream) -> Result<(), Fault> {
        if !self.copies
            && let (Some(source), Some(_)) = (from.plain(), to.plain())
            // Without a descriptor left for a pipe a buffer does.
            && let Ok(pipe) = pool::pipe()
        {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match splice(source, None, &pipe.input, None, pool::SIZE, flags) {
                Ok(0) => {
                    pool::give_back_pipe(pipe);
                    self.ended = true;
                }
                Ok(count) => self.held = Held::Spliced { pipe, count },
                Err(errno) => {
                    pool::give_back_pipe(pipe);
                    if errno != Errno::INVAL {
                        return Err(Fault::Reading(errno.into()));
                    }
                    self.copies = true;
                }
            }
            return Ok(());
        }
        let mut buffer = pool::buffer();
        match from.read(&mut buffer) {
            Ok(0) => {
                pool::give_back_buffer(buffer);
                self.ended = true;
            }
            Ok(end) => self.held = Held::Bytes { buffer, at: 0, end },
            Err(error) => {
                pool::give_back_buffer(buffer);
                return Err(Fault::Reading(error));
            }
        }
        Ok(())
    }

    /// Writes what is held, or passes the end on.
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
                    pool::give_back_buffer(buffer);
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
                    pool::give_back_pipe(pipe);
                }
            }
        }
        Ok(())
    }
}

/// True where it worked. Where it would have blocked, that is noted; poll(2) will tell.
fn unless_blocked(result: Result<(), Fault>, may: &mut bool) -> Result<bool, Fault> {
    let is_blocked = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    match result {
        Ok(()) => Ok(true),
        Err(Fault::Reading(e) | Fault::Writing(e)) if is_blocked(&e) => {
            *may = false;
            Ok(false)
        }
        // A signal came first; the next step does it.
        Err(Fault::Reading(e)) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(fault) => Err(fault),
    }
}
