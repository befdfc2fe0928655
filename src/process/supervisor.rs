//! A thread that ends children whose time has come, whoever else is busy or waits.
//!
//! In scope: how many children there are, and that each ends with its whole group: by SIGTERM, after a
//! grace by SIGKILL. Not in scope: their pipes.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::group::{Exit, ProcessGroup};
use super::pipes::Pipes;
use crate::sync::permits::{Permit, Permits};
use crate::sync::threads;

/// How long a group has between SIGTERM and SIGKILL.
const TERMINATION_GRACE: Duration = Duration::from_secs(1);
/// When a child that SIGKILL did not end at once is killed again.
const KILL_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// How long a stop waits until all children are reaped: the grace, and some.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest sleep, where nothing is due.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// Why a child was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Its deadline has passed.
    Timeout,
    /// What was to be its standard input broke off, and how.
    InputFailed(String),
    /// Nobody wants its output.
    Unwanted,
    /// The supervisor stops.
    Stopping,
}

/// Owns children: only it signals and reaps them.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    permits: Arc<Permits>,
}

#[derive(Default)]
struct Shared {
    /// Guards all children. Signals are sent and children reaped while it is held, which does not wait.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Those that are not reaped, by number.
    children: HashMap<u64, Entry>,
    last_number: u64,
    /// When the thread looks again by itself; `None` while it is looking.
    wakes: Option<Instant>,
    stopping: bool,
    /// The supervisor was dropped: the thread ends with the last child.
    closed: bool,
}

struct Entry {
    group: ProcessGroup,
    deadline: Instant,
    /// Once it is being ended: when it is killed.
    kill_at: Option<Instant>,
    /// The child's standard input where that is incomplete: if it were closed before the child has
    /// ended, it would seem complete.
    input: Option<OwnedFd>,
    ending: Arc<Ending>,
    _permit: Permit,
}

/// What becomes known of a child's end; outlives it.
#[derive(Default)]
struct Ending {
    reason: OnceLock<EndReason>,
    is_over: AtomicBool,
}

/// A child of a supervisor. Dropping this does not end it.
#[derive(Clone)]
pub(crate) struct SupervisedChild {
    shared: Arc<Shared>,
    number: u64,
    deadline: Instant,
    pidfd: Arc<OwnedFd>,
    ending: Arc<Ending>,
}

impl Supervisor {
    /// Starts the thread. There are at most `max` children at once, with those that are being ended.
    pub fn start(thread_name: &str, max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        threads::spawn(thread_name, move || own.supervise())?;
        Ok(Self { shared, permits: Permits::new(max) })
    }

    /// The right to start one more child, if there is one.
    pub fn permit(&self) -> Option<Permit> {
        self.permits.take()
    }

    /// Starts a child, which is ended at the deadline.
    pub fn spawn(
        &self,
        command: &mut Command,
        deadline: Instant,
        permit: Permit,
    ) -> io::Result<(SupervisedChild, Pipes)> {
        let (group, pipes) = ProcessGroup::spawn(command)?;
        let (pidfd, ending) = (Arc::clone(group.pidfd()), Arc::<Ending>::default());
        let (input, kill_at) = (None, None);
        let own = Arc::clone(&ending);
        let mut entry = Entry { group, deadline, kill_at, input, ending: own, _permit: permit };
        let mut state = self.shared.state.lock();
        state.last_number += 1;
        let number = state.last_number;
        let due = match state.stopping {
            true => entry.terminate(EndReason::Stopping, Instant::now()),
            false => deadline,
        };
        state.children.insert(number, entry);
        self.shared.wake_by(&state, due);
        drop(state);
        let shared = Arc::clone(&self.shared);
        Ok((SupervisedChild { shared, number, deadline, pidfd, ending }, pipes))
    }

    /// Ends all children, and waits until they are reaped. Those that are started afterwards are ended
    /// at once.
    pub fn stop(&self) {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        state.stopping = true;
        for entry in state.children.values_mut().filter(|entry| entry.kill_at.is_none()) {
            entry.terminate(EndReason::Stopping, now);
        }
        self.shared.changed.notify_all();
        let is_left = |state: &mut State| !state.children.is_empty();
        self.shared.changed.wait_while_until(&mut state, is_left, now + STOP_TIMEOUT);
    }
}

/// No child outlives its supervisor.
impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.stop();
    }
}

impl Shared {
    fn supervise(&self) {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let mut next = now + IDLE_WAIT;
            state.children.retain(|_, entry| {
                let due = entry.tend(now);
                next = due.map_or(next, |due| due.min(next));
                due.is_some()
            });
            if state.stopping && state.children.is_empty() {
                self.changed.notify_all();
                if state.closed {
                    return;
                }
            }
            state.wakes = Some(next);
            self.changed.wait_until(&mut state, next);
            state.wakes = None;
        }
    }

    fn wake_by(&self, state: &State, when: Instant) {
        if state.wakes.is_some_and(|wakes| when < wakes) {
            self.changed.notify_all();
        }
    }
}

impl Entry {
    /// Does what is due, and says when to look again; `None` when the child is reaped.
    fn tend(&mut self, now: Instant) -> Option<Instant> {
        match self.kill_at {
            None if now < self.deadline => Some(self.deadline),
            None => Some(self.terminate(EndReason::Timeout, now)),
            Some(kill_at) if now < kill_at => Some(kill_at),
            Some(_) => (!self.group.kill()).then_some(now + KILL_RETRY_INTERVAL),
        }
    }

    /// Returns when the group is killed.
    fn terminate(&mut self, reason: EndReason, now: Instant) -> Instant {
        // Set once, by whoever ends it first.
        let _ = self.ending.reason.set(reason);
        self.ending.is_over.store(true, Ordering::Release);
        self.group.terminate();
        *self.kill_at.insert(now + TERMINATION_GRACE)
    }
}

impl SupervisedChild {
    /// What becomes readable when the child has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// When it is ended.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How the child ended by itself, if it has and is not reaped.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        let state = self.shared.state.lock();
        state.children.get(&self.number).map_or(Ok(None), |entry| entry.group.exit())
    }

    /// Whether it is reaped, or being ended.
    pub fn is_over(&self) -> bool {
        self.ending.is_over.load(Ordering::Acquire)
    }

    /// Why it was ended, if it was.
    pub fn end_reason(&self) -> Option<&EndReason> {
        self.ending.reason.get()
    }

    /// The child has ended and its output is complete: what it left behind is killed.
    pub fn finish(&self) {
        let mut state = self.shared.state.lock();
        self.ending.is_over.store(true, Ordering::Release);
        let Some(entry) = state.children.get_mut(&self.number) else { return };
        if entry.group.kill() {
            state.children.remove(&self.number);
            if state.stopping {
                self.shared.changed.notify_all();
            }
        }
    }

    /// Ends it: SIGTERM now, SIGKILL after the grace. `input`: its standard input, if that is incomplete.
    pub fn end(&self, reason: EndReason, input: Option<OwnedFd>) {
        let mut state = self.shared.state.lock();
        let Some(entry) = state.children.get_mut(&self.number) else { return };
        entry.input = input.or(entry.input.take());
        if entry.kill_at.is_none() {
            let kill_at = entry.terminate(reason, Instant::now());
            self.shared.wake_by(&state, kill_at);
        }
    }

    /// Keeps its standard input open until it is reaped.
    pub fn hold_input(&self, input: OwnedFd) {
        if let Some(entry) = self.shared.state.lock().children.get_mut(&self.number) {
            entry.input = Some(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_child_is_ended_at_its_deadline_and_its_permit_returned() {
        let supervisor = Supervisor::start("test", 1).unwrap();
        let permit = supervisor.permit().unwrap();
        assert!(supervisor.permit().is_none());
        let deadline = Instant::now() + Duration::from_millis(100);
        let (child, _pipes) =
            supervisor.spawn(&mut shell("exec sleep 1000"), deadline, permit).unwrap();
        wait_until("it is reaped", || supervisor.permits.wait_empty(Instant::now()) == 0);
        assert!(child.is_over());
        assert_eq!(child.end_reason(), Some(&EndReason::Timeout));
    }

    /// The id may be that of another process by then.
    #[test]
    fn nothing_happens_to_a_child_once_it_is_reaped() {
        let supervisor = Supervisor::start("test", 1).unwrap();
        let permit = supervisor.permit().unwrap();
        let (child, _pipes) =
            supervisor.spawn(&mut shell("exit 3"), Instant::now() + LONG, permit).unwrap();
        wait_until("it ends", || child.exit().unwrap().is_some());
        assert_eq!(child.exit().unwrap(), Some(Exit::Code(3)));
        child.finish();
        assert_eq!(child.exit().unwrap(), None);
        child.end(EndReason::Unwanted, None);
        assert!(child.is_over());
        assert_eq!(child.end_reason(), None);
        assert!(supervisor.shared.state.lock().children.is_empty());
    }

    #[test]
    fn a_stop_ends_all_and_those_that_are_started_later() {
        let supervisor = Supervisor::start("test", 2).unwrap();
        let start = || {
            let permit = supervisor.permit().unwrap();
            supervisor
                .spawn(&mut shell("exec sleep 1000"), Instant::now() + LONG, permit)
                .unwrap()
                .0
        };
        let early = start();
        supervisor.stop();
        assert_eq!(early.end_reason(), Some(&EndReason::Stopping));
        assert_eq!(supervisor.permits.wait_empty(Instant::now()), 0);
        assert_eq!(start().end_reason(), Some(&EndReason::Stopping));
    }
}
