//! A thread that terminates children at their deadline, independently of all other threads.
//!
//! In scope: limiting the number of children, and terminating each with its whole group: SIGTERM,
//! then SIGKILL after a grace period. What a child has left in its group is killed a moment after
//! its end, so that a job it has just started can leave the group. Not in scope: their pipes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::group::{Exit, ProcessGroup};
use super::pipes::Pipes;
use crate::sync::shares::{Place, Shares};
use crate::sync::threads;

/// Grace period between SIGTERM and SIGKILL.
const TERMINATION_GRACE: Duration = Duration::from_secs(1);
/// How long a child's group stays after the child has ended. A job that is started with `setsid`
/// leaves the group once that program runs, which takes milliseconds, or longer on a busy machine.
const DEPARTURE_TIME: Duration = Duration::from_secs(1);
/// Maximum number of ended children whose groups stay. With more, the time of the oldest is over:
/// an ended child takes up a process id until then.
const MAX_DEPARTING: usize = 128;
/// Interval between attempts to kill a child that did not exit immediately on SIGKILL.
const KILL_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// How long a stop waits until all children are reaped: the grace period and a margin.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest sleep when nothing is due.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// Why a child was terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Its deadline has passed.
    Timeout,
    /// The source of its standard input failed, for this reason.
    InputFailed(String),
    /// Its output is no longer wanted.
    Unwanted,
    /// The supervisor is stopping.
    Stopping,
}

/// Owns children: only the supervisor signals and reaps them.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    places: Arc<Shares>,
}

#[derive(Default)]
struct Shared {
    /// Guards all children. Signals and reaping happen under this lock; neither blocks.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The children not yet reaped, by number.
    children: HashMap<u64, Entry>,
    /// The last children that have ended by themselves, oldest first.
    departing: VecDeque<u64>,
    last_number: u64,
    /// When the thread wakes up on its own; `None` while it is running.
    wakes: Option<Instant>,
    stopping: bool,
    /// The supervisor was dropped: the thread exits after the last child.
    closed: bool,
}

struct Entry {
    group: ProcessGroup,
    deadline: Instant,
    /// When to send SIGKILL, once it has ended or is being terminated.
    kill_at: Option<Instant>,
    /// The child's incomplete standard input: closing it before the child has exited would make it
    /// look complete.
    input: Option<OwnedFd>,
    ending: Arc<Ending>,
    /// Until it has ended.
    place: Option<Place>,
}

/// The state of a child's termination; outlives the child.
#[derive(Default)]
struct Ending {
    reason: OnceLock<EndReason>,
    is_over: AtomicBool,
}

/// A handle to a supervised child. Dropping it does not terminate the child.
#[derive(Clone)]
pub(crate) struct SupervisedChild {
    shared: Arc<Shared>,
    number: u64,
    deadline: Instant,
    pidfd: Arc<OwnedFd>,
    ending: Arc<Ending>,
}

impl Supervisor {
    /// Starts the thread. At most so many children exist at once, including those being terminated,
    /// and each holder of places has only its share of them.
    pub fn start(thread_name: &str, places: Arc<Shares>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        threads::spawn(thread_name, move || own.supervise())?;
        Ok(Self { shared, places })
    }

    /// A place to start one more child for this holder, unless it has its share.
    pub fn place(&self, holder: &str) -> Option<Place> {
        self.places.take(holder)
    }

    /// Starts a child, which is terminated at the deadline. It inherits `inherited` under the same
    /// number.
    pub fn spawn(
        &self,
        command: &mut Command,
        inherited: Option<BorrowedFd<'_>>,
        deadline: Instant,
        place: Place,
    ) -> io::Result<(SupervisedChild, Pipes)> {
        let (group, pipes) = ProcessGroup::spawn(command, inherited)?;
        let (pidfd, ending) = (Arc::clone(group.pidfd()), Arc::<Ending>::default());
        let (input, kill_at) = (None, None);
        let own = Arc::clone(&ending);
        let place = Some(place);
        let mut entry = Entry { group, deadline, kill_at, input, ending: own, place };
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

    /// Terminates all children and waits until they are reaped. Children started later are
    /// terminated immediately.
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
    /// Does what is due. Returns when to call this again, or `None` once the child is reaped.
    fn tend(&mut self, now: Instant) -> Option<Instant> {
        match self.kill_at {
            None if now < self.deadline => Some(self.deadline),
            None => Some(self.terminate(EndReason::Timeout, now)),
            Some(kill_at) if now < kill_at => Some(kill_at),
            Some(_) => (!self.group.kill()).then_some(now + KILL_RETRY_INTERVAL),
        }
    }

    /// Sends SIGTERM. Returns when SIGKILL is due.
    fn terminate(&mut self, reason: EndReason, now: Instant) -> Instant {
        // Only the first reason is kept.
        let _ = self.ending.reason.set(reason);
        self.ending.is_over.store(true, Ordering::Release);
        self.group.terminate();
        *self.kill_at.insert(now + TERMINATION_GRACE)
    }
}

impl SupervisedChild {
    /// A descriptor that is readable once the child has exited.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// When the child is terminated.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How the child ended on its own, if it has and is not yet reaped.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        let state = self.shared.state.lock();
        state.children.get(&self.number).map_or(Ok(None), |entry| entry.group.exit())
    }

    /// Whether the child was reaped or is being terminated.
    pub fn is_over(&self) -> bool {
        self.ending.is_over.load(Ordering::Acquire)
    }

    /// Why the child was terminated, if it was.
    pub fn end_reason(&self) -> Option<&EndReason> {
        self.ending.reason.get()
    }

    /// The child has exited and its output is complete: kills the rest of its group in a moment.
    pub fn finish(&self) {
        let mut state = self.shared.state.lock();
        self.ending.is_over.store(true, Ordering::Release);
        let Some(entry) = state.children.get_mut(&self.number) else { return };
        if entry.kill_at.is_some() {
            return;
        }
        let kill_at = Instant::now() + DEPARTURE_TIME;
        entry.kill_at = Some(kill_at);
        entry.place = None;
        entry.input = None;
        state.departing.push_back(self.number);
        if state.departing.len() > MAX_DEPARTING
            && let Some(oldest) = state.departing.pop_front()
            && state.children.get_mut(&oldest).is_some_and(|entry| entry.group.kill())
        {
            state.children.remove(&oldest);
        }
        self.shared.wake_by(&state, kill_at);
    }

    /// Terminates the child: SIGTERM now, SIGKILL after the grace period. `input` is its standard
    /// input, if incomplete.
    pub fn end(&self, reason: EndReason, input: Option<OwnedFd>) {
        let mut state = self.shared.state.lock();
        let Some(entry) = state.children.get_mut(&self.number) else { return };
        entry.input = input.or(entry.input.take());
        if entry.kill_at.is_none() {
            let kill_at = entry.terminate(reason, Instant::now());
            self.shared.wake_by(&state, kill_at);
        }
    }

    /// Keeps the child's standard input open until it is reaped.
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
    use crate::sync::shares::Places;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    fn supervisor(places: usize) -> Supervisor {
        Supervisor::start("test", Shares::new(Places::new(2 * places, places))).unwrap()
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_child_is_ended_at_its_deadline_and_its_place_returned() {
        let supervisor = supervisor(1);
        let place = supervisor.place("a").unwrap();
        assert!(supervisor.place("a").is_none());
        let deadline = Instant::now() + Duration::from_millis(100);
        let (child, _pipes) =
            supervisor.spawn(&mut shell("exec sleep 1000"), None, deadline, place).unwrap();
        wait_until("it is reaped", || supervisor.places.taken() == 0);
        assert!(child.is_over());
        assert_eq!(child.end_reason(), Some(&EndReason::Timeout));
    }

    /// By then the id may belong to another process.
    #[test]
    fn nothing_happens_to_a_child_once_it_is_reaped() {
        let supervisor = supervisor(1);
        let place = supervisor.place("a").unwrap();
        let (child, _pipes) =
            supervisor.spawn(&mut shell("exit 3"), None, Instant::now() + LONG, place).unwrap();
        wait_until("it ends", || child.exit().unwrap().is_some());
        assert_eq!(child.exit().unwrap(), Some(Exit::Code(3)));
        child.finish();
        assert_eq!(supervisor.places.taken(), 0, "others may run");
        wait_until("it is reaped", || child.exit().unwrap().is_none());
        child.end(EndReason::Unwanted, None);
        assert!(child.is_over());
        assert_eq!(child.end_reason(), None);
        assert!(supervisor.shared.state.lock().children.is_empty());
    }

    #[test]
    fn only_so_many_ended_children_stay() {
        let supervisor = supervisor(MAX_DEPARTING + 2);
        let children: Vec<_> = (0..MAX_DEPARTING + 2)
            .map(|_| {
                let place = supervisor.place("a").unwrap();
                let deadline = Instant::now() + LONG;
                supervisor.spawn(&mut shell("exit 0"), None, deadline, place).unwrap().0
            })
            .collect();
        for child in &children {
            wait_until("it ends", || child.exit().unwrap().is_some());
        }
        for child in &children {
            child.finish();
        }
        for child in &children[..2] {
            assert_eq!(child.exit().unwrap(), None, "it is reaped before its time");
        }
    }

    #[test]
    fn a_stop_ends_all_and_those_that_are_started_later() {
        let supervisor = supervisor(2);
        let start = || {
            let place = supervisor.place("a").unwrap();
            supervisor
                .spawn(&mut shell("exec sleep 1000"), None, Instant::now() + LONG, place)
                .unwrap()
                .0
        };
        let early = start();
        supervisor.stop();
        assert_eq!(early.end_reason(), Some(&EndReason::Stopping));
        assert_eq!(supervisor.places.taken(), 0);
        assert_eq!(start().end_reason(), Some(&EndReason::Stopping));
    }
}
