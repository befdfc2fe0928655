//! The parent's ends of a child's pipes; all are non-blocking.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

/// The pipes a child was started with.
pub(crate) struct Pipes {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
}

impl Pipes {
    /// Takes the pipes out of the child.
    pub(super) fn take(child: &mut Child) -> Self {
        Self { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() }
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        let Self { stdin, stdout, stderr } = self;
        let pipes = [
            stdin.as_ref().map(AsFd::as_fd),
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        pipes.into_iter().flatten().try_for_each(|pipe| Ok(ioctl_fionbio(pipe, true)?))
    }
}

/// Reads what is available; `None` if nothing is.
pub(crate) fn read_available(pipe: &mut impl Read, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match pipe.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
    }
}

/// Waits until one of these is ready, or for `timeout`. A signal ends the wait too: the caller
/// checks all of them again in any case.
pub(crate) fn wait_ready(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
