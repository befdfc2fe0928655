//! SIGTERM, SIGINT and SIGHUP as messages.
//!
//! In scope: the first signal to stop is a message for the receiver, the second one ends the
//! process; SIGHUP is a message to reload files. Not in scope: stopping and reloading (`node`), and
//! every other signal.

use std::ffi::c_int;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{self, Handle};

use crate::sync::threads;

/// A signal to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a service manager, or `kill`.
    Terminate,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The first signal as a message. The second one, of either kind, ends the process at once by the
/// signal's default action, inside the signal handler, so that no stuck thread prevents it. This
/// remains in effect after this value is dropped. The same signal twice within a fifth of a second
/// counts once: `timeout` and the like signal a program and then its whole process group.
///
/// Create one per process, before other threads start.
#[derive(Debug)]
pub struct Signals {
    receiver: Receiver<Signal>,
    reloads: Receiver<()>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    /// Whether a signal to stop has come.
    seen: Arc<AtomicBool>,
    /// Whether the next SIGTERM, and the next SIGINT, ends the process.
    armed: [Arc<AtomicBool>; 2],
}

fn arm(flags: &[Arc<AtomicBool>]) {
    flags.iter().for_each(|flag| flag.store(true, Ordering::Release));
}

/// Signals of one kind that come within this time are one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

impl Signals {
    /// Installs handlers for the three signals. The error is the operating system's.
    pub fn new() -> io::Result<Self> {
        const SIGNALS: [c_int; 2] = [SIGTERM, SIGINT];
        let flag = || Arc::new(AtomicBool::new(false));
        let (seen, armed) = (flag(), [flag(), flag()]);
        for (at, signal) in SIGNALS.into_iter().enumerate() {
            // Actions run in the order of their registration, so the first signal is not caught by
            // what it arms. It arms the other kind only; the thread arms its own.
            flag::register_conditional_default(signal, Arc::clone(&armed[at]))?;
            flag::register(signal, Arc::clone(&armed[1 - at]))?;
            flag::register(signal, Arc::clone(&seen))?;
        }
        let arming = armed.clone();
        let mut signals = iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        // Capacity one: there is never a second message, as the second signal ends the process.
        let (sender, receiver) = bounded(1);
        // Capacity one: one reload serves several signals.
        let (reload, reloads) = bounded(1);
        let thread = threads::spawn("signals", move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    let _ = reload.try_send(());
                    continue;
                }
                let signal = if signal == SIGINT { Signal::Interrupt } else { Signal::Terminate };
                // Full or disconnected: the process is already stopping.
                let _ = sender.try_send(signal);
                thread::sleep(SAME_SIGNAL);
                arm(&arming);
            }
        })?;
        Ok(Self { receiver, reloads, handle, thread: Some(thread), seen, armed })
    }

    /// Receives the first signal. Disconnects only when this value is dropped.
    pub fn receiver(&self) -> &Receiver<Signal> {
        &self.receiver
    }

    /// Receives SIGHUP.
    pub fn reloads(&self) -> &Receiver<()> {
        &self.reloads
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Ends `forever`, and with it the thread.
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // One that the thread has not received.
        if self.seen.load(Ordering::Acquire) {
            arm(&self.armed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Output};

    use signal_hook::low_level::raise;

    use super::*;

    const IS_CHILD: &str = "RESTPIPE_TEST_CHILD";
    const DEADLINE: Duration = Duration::from_secs(10);

    /// Runs one of the ignored tests below in a child process: a signal affects the whole process,
    /// and the second one ends it.
    fn in_a_process(test: &str) -> Output {
        let program = std::env::current_exe().unwrap();
        let name = format!("run::signals::tests::{test}");
        let mut command = Command::new(program);
        command.args(["--exact", &name, "--ignored", "--nocapture"]).env(IS_CHILD, "1");
        command.output().unwrap()
    }

    fn is_child() -> bool {
        std::env::var_os(IS_CHILD).is_some()
    }

    #[test]
    fn the_first_signal_is_a_message() {
        let output = in_a_process("child_receives_the_first_signal");
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("received SIGINT"), "{shown}");
    }

    #[test]
    #[ignore = "run in a process of its own"]
    fn child_receives_the_first_signal() {
        if !is_child() {
            return;
        }
        let signals = Signals::new().unwrap();
        assert!(signals.receiver().is_empty());
        raise(SIGINT).unwrap();
        println!("received {}", signals.receiver().recv_timeout(DEADLINE).unwrap());
    }

    #[test]
    fn a_wish_to_read_files_anew_does_not_count_as_the_first_signal() {
        let output = in_a_process("child_receives_two_hangups");
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("reloads, then SIGTERM"), "{shown}");
    }

    #[test]
    #[ignore = "run in a process of its own"]
    fn child_receives_two_hangups() {
        if !is_child() {
            return;
        }
        let signals = Signals::new().unwrap();
        for _ in 0..2 {
            raise(SIGHUP).unwrap();
            signals.reloads().recv_timeout(DEADLINE).unwrap();
        }
        raise(SIGTERM).unwrap();
        println!("reloads, then {}", signals.receiver().recv_timeout(DEADLINE).unwrap());
    }

    #[test]
    fn the_second_signal_ends_a_process_that_reads_none() {
        let output = in_a_process("child_gets_two_signals_and_reads_none");
        assert_eq!(output.status.signal(), Some(SIGINT), "{output:?}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("survived the first"), "{shown}");
    }

    #[test]
    #[ignore = "run in a process of its own"]
    fn child_gets_two_signals_and_reads_none() {
        if !is_child() {
            return;
        }
        let _signals = Signals::new().unwrap();
        raise(SIGTERM).unwrap();
        raise(SIGTERM).unwrap();
        println!("survived the first");
        raise(SIGINT).unwrap();
        println!("survived the second");
    }

    #[test]
    fn the_second_signal_ends_a_process_after_the_drop_too() {
        let output = in_a_process("child_drops_between_two_signals");
        assert_eq!(output.status.signal(), Some(SIGTERM), "{output:?}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("dropped"), "{shown}");
    }

    #[test]
    #[ignore = "run in a process of its own"]
    fn child_drops_between_two_signals() {
        if !is_child() {
            return;
        }
        let signals = Signals::new().unwrap();
        raise(SIGTERM).unwrap();
        drop(signals);
        println!("dropped");
        raise(SIGTERM).unwrap();
        println!("survived the second");
    }
}
