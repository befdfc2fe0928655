//! One script's process group: its start, its end, and that nothing of it is left.
//!
//! The script leads a group of its own, and a group is signalled as a whole. The script itself is
//! reaped last, when the group is done with: until then its number cannot become that of another group,
//! so that no signal ever hits a stranger.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::keeper::{Keeper, Place};

/// How long a group has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);
/// How soon it is looked again after a script that SIGKILL did not end at once.
const RETRY: Duration = Duration::from_millis(20);

/// How a script ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a group was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It took too long.
    Timeout,
    /// The body of its event broke off, and how.
    Upload(String),
    /// Nobody waits for its reply.
    Unwanted,
    /// The node stops.
    Stopping,
}

/// A script, and what it has started.
pub(super) struct Group {
    pid: Pid,
    /// Becomes readable when the script itself has ended.
    ended: OwnedFd,
    deadline: Instant,
    keeper: Keeper,
    /// Whether it is being ended, or gone; saves a look at the state.
    over: AtomicBool,
    /// Guards the life of the group. Nothing that waits is done while it is held.
    state: Mutex<State>,
}

struct State {
    child: Child,
    phase: Phase,
    /// The script's standard input where that has not ended: closed too early, it would seem whole.
    input: Option<OwnedFd>,
    place: Option<Place>,
}

enum Phase {
    Running,
    Ending {
        kill_at: Instant,
        why: Why,
    },
    /// Reaped; `why` where it did not end by itself.
    Gone {
        why: Option<Why>,
    },
}

impl Phase {
    const fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    fn why(&self) -> Option<Why> {
        match self {
            Self::Running => None,
            Self::Ending { why, .. } => Some(why.clone()),
            Self::Gone { why } => why.clone(),
        }
    }
}

impl Group {
    /// Starts a script as the leader of a new group, which is ended at the deadline. The script's pipes are
    /// returned in the child.
    pub fn start(
        command: &mut Command,
        deadline: Instant,
        keeper: &Keeper,
        place: Place,
    ) -> io::Result<(Arc<Self>, Pipes)> {
        let mut child = command.process_group(0).spawn()?;
        let pipes = Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let opened = Pid::from_raw(child.id().cast_signed())
            .ok_or(io::ErrorKind::InvalidData.into())
            .and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)));
        let (pid, ended) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // It has just been started: there is nothing else in its group worth a thought.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let state = State { child, phase: Phase::Running, input: None, place: Some(place) };
        let group = Arc::new(Self {
            pid,
            ended,
            deadline,
            keeper: keeper.clone(),
            over: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        keeper.watch(&group);
        Ok((group, pipes))
    }

    /// What becomes readable when the script itself has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// When it is ended.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How the script ended, if it has. It stays to be reaped.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid), options)?;
        Ok(status.and_then(|status| {
            let code = status.exit_status().map(Exit::Code);
            code.or_else(|| status.terminating_signal().map(Exit::Signal))
        }))
    }

    /// Whether it is gone, or being ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Why it was ended, if it was.
    pub fn why(&self) -> Option<Why> {
        self.lock().phase.why()
    }

    /// The script has ended and said everything: what it left behind is killed.
    pub fn finish(&self) {
        let mut state = self.lock();
        self.over.store(true, Ordering::Release);
        if !state.phase.is_gone() && self.kill(&mut state) {
            drop(state);
            self.keeper.forget(self);
        }
    }

    /// Ends it: SIGTERM now, SIGKILL after a grace. `input`: its standard input, if that has not ended.
    pub fn end(&self, why: Why, input: Option<OwnedFd>) {
        let mut state = self.lock();
        if state.phase.is_gone() {
            return;
        }
        if input.is_some() {
            state.input = input;
        }
        if matches!(state.phase, Phase::Running) {
            let kill_at = self.terminate(&mut state, why, Instant::now());
            drop(state);
            self.keeper.look_at(kill_at);
        }
    }

    /// Keeps its standard input open until it is gone.
    pub fn hold(&self, input: OwnedFd) {
        let mut state = self.lock();
        if !state.phase.is_gone() {
            state.input = Some(input);
        }
    }

    /// Does what is due, and says when to look again; `None` when it is gone.
    pub fn tend(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        match state.phase {
            Phase::Running if now < self.deadline => Some(self.deadline),
            Phase::Running => Some(self.terminate(&mut state, Why::Timeout, now)),
            Phase::Ending { kill_at, .. } if now < kill_at => Some(kill_at),
            Phase::Ending { .. } => (!self.kill(&mut state)).then_some(now + RETRY),
            Phase::Gone { .. } => None,
        }
    }

    fn terminate(&self, state: &mut State, why: Why, now: Instant) -> Instant {
        self.over.store(true, Ordering::Release);
        let _ = kill_process_group(self.pid, Signal::TERM);
        // One that was stopped would not see it.
        let _ = kill_process_group(self.pid, Signal::CONT);
        let kill_at = now + GRACE;
        state.phase = Phase::Ending { kill_at, why };
        kill_at
    }

    /// Kills the group and reaps the script; whether it was dead already. Else the keeper tries again.
    fn kill(&self, state: &mut State) -> bool {
        let _ = kill_process_group(self.pid, Signal::KILL);
        let why = state.phase.why();
        // An error: somebody else has reaped it, and the number means nothing to us any more.
        let is_gone = !matches!(state.child.try_wait(), Ok(None));
        if is_gone {
            state.phase = Phase::Gone { why };
            state.input = None;
            state.place = None;
        }
        is_gone
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Our ends of a script's pipes.
pub(super) struct Pipes {
    pub stdin: Option<std::process::ChildStdin>,
    pub stdout: Option<std::process::ChildStdout>,
    pub stderr: Option<std::process::ChildStderr>,
}
