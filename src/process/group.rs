//! A child and its process group: start, signals, reaping.
//!
//! The child leads the group, and signals go to the whole group. Until the child is reaped, its
//! process id cannot be reused for another group; afterwards no signals are sent.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::open_files;
use super::pipes::{Pipes, wait_ready};
use crate::sync::deadline::time_left;

/// How long to wait for a killed child, which may be stuck in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The process ids of the children that are not reaped yet. A child is reaped under this lock, so
/// that its id cannot belong to another one when it is removed. It is never held across a wait.
static CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
/// Held while a child starts for which a descriptor is inheritable, so that no other such child
/// inherits it. That takes about a millisecond, or longer if the program's file system hangs.
static INHERITING: Mutex<()> = Mutex::new(());

/// Reaps the process with this id, which exited some time ago, unless it is one of the children.
pub(crate) fn reap_stranger(pid: Pid) {
    let children = CHILDREN.lock();
    if !children.contains(&pid.as_raw_nonzero().get().unsigned_abs()) {
        // On error it was not a child of this process.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// How a child ended on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Exited with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// A child, reaped or not. Dropping it kills the whole group unless the child was reaped.
pub(crate) struct ProcessGroup {
    leader: Child,
    /// Readable once the child has exited.
    pidfd: Arc<OwnedFd>,
    is_reaped: bool,
}

impl ProcessGroup {
    /// Starts the child as the leader of a new group. It inherits its standard streams, and
    /// `inherited` under the same number.
    pub fn spawn(
        command: &mut Command,
        inherited: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Self, Pipes)> {
        let mut leader = start(command.process_group(0), inherited)?;
        let pipes = Pipes::take(&mut leader);
        open_files::restore(Pid::from_child(&leader));
        let pidfd = match pidfd_open(Pid::from_child(&leader), PidfdFlags::empty()) {
            Ok(pidfd) => Arc::new(pidfd),
            Err(error) => {
                // It was just started, so its group has no other processes yet.
                let _ = leader.kill();
                let mut children = CHILDREN.lock();
                let _ = leader.wait();
                children.remove(&leader.id());
                return Err(error.into());
            }
        };
        let group = Self { leader, pidfd, is_reaped: false };
        // From here on, returning an error drops the group, which kills it.
        pipes.set_nonblocking()?;
        Ok((group, pipes))
    }

    /// A descriptor that is readable once the child has exited, whether or not it was reaped.
    pub fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.pidfd
    }

    /// How the child ended, if it has. Does not reap it.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid()), options)?;
        Ok(status.and_then(|status| {
            let code = status.exit_status().map(Exit::Code);
            code.or_else(|| status.terminating_signal().map(Exit::Signal))
        }))
    }

    /// Sends SIGTERM to all processes of the group.
    pub fn terminate(&mut self) {
        if !self.is_reaped {
            let _ = kill_process_group(self.pid(), Signal::TERM);
            // A stopped process would not receive it.
            let _ = kill_process_group(self.pid(), Signal::CONT);
        }
    }

    /// Kills the group and reaps the child. Returns whether the child was reaped; if it has not
    /// exited immediately, call this again.
    pub fn kill(&mut self) -> bool {
        if !self.is_reaped {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            // On error the child was reaped elsewhere, and the id is no longer valid.
            let _ = self.try_reap();
        }
        self.is_reaped
    }

    /// Reaps the child if it has exited; does not signal the rest of its group.
    pub fn try_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut children = CHILDREN.lock();
        let status = self.leader.try_wait();
        if !matches!(status, Ok(None)) {
            self.is_reaped = true;
            children.remove(&self.leader.id());
        }
        status
    }

    /// Kills the group and waits until the child is reaped, for at most [`KILL_TIMEOUT`].
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

fn start(command: &mut Command, inherited: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    let leader = match inherited {
        None => command.spawn()?,
        Some(fd) => {
            let lock = INHERITING.lock();
            fcntl_setfd(fd, FdFlags::empty())?;
            let spawned = command.spawn();
            // It succeeded a moment ago with the same descriptor.
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
            drop(lock);
            spawned?
        }
    };
    CHILDREN.lock().insert(leader.id());
    Ok(leader)
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.kill_and_wait();
        }
    }
}
