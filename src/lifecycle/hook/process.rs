//! A child process that ends: by itself, or with its whole process group.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);
/// What is kept of its standard error, in bytes.
const TAIL: usize = 1024;
/// What is shown of that, in characters.
const SHOWN: usize = 160;

/// A process that runs, and leads a group of its own.
pub(super) struct Running {
    child: Child,
    errors: Option<ChildStderr>,
    tail: Vec<u8>,
}

/// How it ended.
pub(super) enum Outcome {
    /// By itself.
    Ended(ExitStatus),
    /// Its time was over.
    Killed,
}

impl Running {
    /// Starts it without standard input and output.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn()?;
        let errors = child.stderr.take();
        // Before anything can fail: from here on the group is killed where this is dropped.
        let running = Self { child, errors, tail: Vec::new() };
        if let Some(errors) = &running.errors {
            rustix::io::ioctl_fionbio(errors, true)?;
        }
        Ok(running)
    }

    /// Waits until it has ended, or kills its group at the deadline, which may change meanwhile.
    pub fn wait(&mut self, deadline: impl Fn() -> Instant) -> io::Result<Outcome> {
        let (_alive, never) = crossbeam_channel::bounded::<()>(0);
        loop {
            self.take_errors();
            if let Some(status) = self.child.try_wait()? {
                self.take_errors();
                return Ok(Outcome::Ended(status));
            }
            if deadline() <= Instant::now() {
                self.kill();
                return Ok(Outcome::Killed);
            }
            // Nothing is sent: this is a pause between looks.
            let _ = never.recv_timeout(LOOK);
        }
    }

    /// The last line of its standard error for a log line, or nothing.
    pub fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        last.map_or_else(String::new, |line| {
            let shown: String = line.chars().take(SHOWN).collect();
            format!(": {}", shown.escape_debug())
        })
    }

    /// Takes what is there, so that it never waits to be read; a few looks' worth at a time, for a
    /// process that never stops writing has a deadline too.
    fn take_errors(&mut self) {
        let Some(errors) = &mut self.errors else { return };
        let mut buffer = [0; 8192];
        for _ in 0..64 {
            match errors.read(&mut buffer) {
                Ok(0) => {
                    self.errors = None;
                    return;
                }
                Ok(count) => {
                    self.tail.extend_from_slice(&buffer[..count]);
                    let surplus = self.tail.len().saturating_sub(TAIL);
                    self.tail.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn kill(&mut self) {
        // Not waited for yet, so that its number is still its own and its group's.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        // It may be stuck in the kernel; whoever waits for that waits for ever.
        let until = Instant::now() + Duration::from_secs(1);
        let (_alive, never) = crossbeam_channel::bounded::<()>(0);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            let _ = never.recv_timeout(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}
