//! A child and its process group: start, signals, reaping.
//!
//! The child leads the group, and the group is signalled as a whole. Until the child is reaped its
//! process id cannot become that of another group; afterwards nothing is signalled.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::pipes::{Pipes, wait_ready};
use crate::sync::deadline::time_left;

/// How long the end of a killed child is waited for: it may be stuck in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// How a child ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A child that was not reaped yet, or was, by this. Dropping it kills the whole group where the child
/// has not been reaped.
pub(crate) struct ProcessGroup {
    leader: Child,
    /// Becomes readable when the child has ended.
    pidfd: Arc<OwnedFd>,
    is_reaped: bool,
}

impl ProcessGroup {
    /// Starts the child as the leader of a new group.
    pub fn spawn(command: &mut Command) -> io::Result<(Self, Pipes)> {
        let mut leader = command.process_group(0).spawn()?;
        let pipes = Pipes::take(&mut leader);
        let pidfd = match pidfd_open(Pid::from_child(&leader), PidfdFlags::empty()) {
            Ok(pidfd) => Arc::new(pidfd),
            Err(error) => {
                // It has just been started: nothing else is in its group yet.
                let _ = leader.kill();
                let _ = leader.wait();
                return Err(error.into());
            }
        };
        let group = Self { leader, pidfd, is_reaped: false };
        // From here on an error drops the group, which kills it.
        pipes.set_nonblocking()?;
        Ok((group, pipes))
    }

    /// What becomes readable when the child has ended, whether or not it has been reaped.
    pub fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.pidfd
    }

    /// How the child ended, if it has. It stays to be reaped.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid()), options)?;
        Ok(status.and_then(|status| {
            let code = status.exit_status().map(Exit::Code);
            code.or_else(|| status.terminating_signal().map(Exit::Signal))
        }))
    }

    /// Asks all processes of the group to end.
    pub fn terminate(&mut self) {
        if !self.is_reaped {
            let _ = kill_process_group(self.pid(), Signal::TERM);
            // A stopped process would not see it.
            let _ = kill_process_group(self.pid(), Signal::CONT);
        }
    }

    /// Kills the group and reaps the child. Returns whether the child is reaped: one that has not ended
    /// at once is to be killed again.
    pub fn kill(&mut self) -> bool {
        if !self.is_reaped {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            // An error: somebody else has reaped it, and the id means nothing to us.
            let _ = self.try_reap();
        }
        self.is_reaped
    }

    /// Reaps the child where it has ended; the rest of its group is left alone.
    pub fn try_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.leader.try_wait();
        self.is_reaped |= !matches!(status, Ok(None));
        status
    }

    /// Kills the group, and waits until the child is reaped, or for [`KILL_TIMEOUT`].
    pub fn kill_and_wait(&mut self) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        while !self.kill() && Instant::now() < deadline {
            let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
            if wait_ready(&mut ended, time_left(deadline)).is_err() {
                return;
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.leader)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.kill_and_wait();
        }
    }
}
