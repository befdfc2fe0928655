//! Runs a child while the calling thread waits.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::group::ProcessGroup;
use super::pipes::wait_ready;
use super::stderr_tail::StderrTail;

/// How often to check the deadline, which may change while a child runs.
const DEADLINE_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How a child ended.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// It exited, or was killed by a signal, on its own.
    Exited(ExitStatus),
    /// It was killed with its whole group at its deadline.
    Killed,
}

/// Why the end of a child is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot be started: {0}")]
    Start(io::Error),
    #[error("cannot be waited for: {0}")]
    Wait(io::Error),
}

/// Runs a child without standard input and output until it exits, or kills its group at the
/// deadline, which may change meanwhile. Also returns the last `max_stderr` bytes of its standard
/// error.
pub(crate) fn run(
    command: &mut Command,
    max_stderr: usize,
    deadline: impl Fn() -> Instant,
) -> Result<(RunEnd, String), RunError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (mut group, pipes) = ProcessGroup::spawn(command, None).map_err(RunError::Start)?;
    let mut stderr = StderrTail::new(pipes.stderr, max_stderr);
    loop {
        stderr.drain();
        if let Some(status) = group.try_reap().map_err(RunError::Wait)? {
            stderr.drain();
            return Ok((RunEnd::Exited(status), stderr.text()));
        }
        if deadline() <= Instant::now() {
            group.kill_and_wait();
            return Ok((RunEnd::Killed, stderr.text()));
        }
        let mut fds = vec![PollFd::new(group.pidfd(), PollFlags::IN)];
        fds.extend(stderr.pipe().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
        wait_ready(&mut fds, DEADLINE_POLL_INTERVAL).map_err(RunError::Wait)?;
    }
}
