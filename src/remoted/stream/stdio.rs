//! Standard input and output as one connection.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::poll::wait_any;

/// What a pipe or a terminal accepts without blocking once poll(2) reports it as writable (`PIPE_BUF`,
/// pipe(7)). Standard output is shared with other processes, so it stays blocking.
const MAX_WRITE: usize = 4096;

/// Standard input and output of this process. Reads and writes poll first, since both may block, and return
/// `WouldBlock` instead.
pub(super) struct StandardStreams {
    input: File,
    /// None after it was closed for writing.
    output: Option<File>,
}

impl StandardStreams {
    /// To be used once.
    pub fn new() -> io::Result<Self> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { input, output: Some(output) })
    }

    /// What to poll for reading.
    pub fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// What to poll for writing.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_ref().map_or(self.input.as_fd(), AsFd::as_fd)
    }

    /// Ends the output.
    pub fn close_writing(&mut self) -> io::Result<()> {
        self.output.take().map_or(Ok(()), |output| close_standard_output(&output))
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        is_ready(PollFd::new(&self.input, PollFlags::IN))?;
        self.input.read(buffer)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(output) = &mut self.output else { return Err(io::ErrorKind::BrokenPipe.into()) };
        is_ready(PollFd::new(output, PollFlags::OUT))?;
        output.write(&bytes[..bytes.len().min(MAX_WRITE)])
    }
}

/// `WouldBlock` unless it has an event now.
fn is_ready(polled: PollFd<'_>) -> io::Result<()> {
    match wait_any(&mut [polled], Some(Instant::now()))? {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Ends our standard output for its readers; dropping a copy would not.
fn close_standard_output(output: &File) -> io::Result<()> {
    // A socket may have copies in other processes.
    let _ = rustix::net::shutdown(output, rustix::net::Shutdown::Write);
    Ok(rustix::stdio::dup2_stdout(&File::options().write(true).open("/dev/null")?)?)
}
