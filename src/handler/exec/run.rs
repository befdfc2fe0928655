//! One run of a script: its pipes, served by whoever wants its output.
//!
//! Nobody who reads stops the script, as a pipe does: what it writes waits, and so does the rest of a
//! body in memory. Its deadline counts all the same.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

use super::fault::Fault;
use super::feed;
use super::group::{Exit, Group, Why};
use super::keeper::{Keeper, Place};
use crate::event::Body;

/// Most bytes that are kept of what a script writes to its standard error: the last ones.
const TAIL: usize = 4 * 1024;

/// What a script is called with.
pub(super) struct Call<'a> {
    /// The script.
    pub path: &'a Path,
    /// Its working directory.
    pub dir: &'a Path,
    /// Its arguments, without a NUL.
    pub arguments: &'a [String],
    /// Its whole environment, without a NUL.
    pub variables: &'a [(String, String)],
    /// When it is ended.
    pub deadline: Instant,
}

/// A script that runs. Dropping it ends the script's whole group.
pub(super) struct Run {
    group: Arc<Group>,
    stdin: Option<Input>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    exit: Option<Exit>,
    said: Vec<u8>,
}

/// What came of a wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes of output.
    Bytes(usize),
    /// The script has ended well, and its output is complete.
    Ended,
    /// Nothing yet.
    Nothing,
}

impl Run {
    /// Starts a script. Never by a shell: a file without a `#!` line that is no program is an error.
    pub fn start(call: &Call<'_>, body: Body, keeper: &Keeper, place: Place) -> io::Result<Self> {
        let has_body = body.whole().is_none_or(|bytes| !bytes.is_empty());
        let mut command = Command::new(call.path);
        command
            .args(call.arguments)
            .env_clear()
            .envs(call.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(call.dir)
            .stdin(if has_body { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (group, pipes) = Group::start(&mut command, call.deadline, keeper, place)?;
        let mut run = Self {
            group,
            stdin: None,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            exit: None,
            said: Vec::new(),
        };
        if let Some(stdout) = &run.stdout {
            ioctl_fionbio(stdout, true)?;
        }
        if let Some(stderr) = &run.stderr {
            ioctl_fionbio(stderr, true)?;
        }
        if let Some(stdin) = pipes.stdin {
            ioctl_fionbio(&stdin, true)?;
            match body.whole() {
                Some(bytes) => {
                    run.stdin = Some(Input { pipe: stdin, bytes: bytes.to_vec(), at: 0 })
                }
                None => feed::start(&run.group, stdin, body)?,
            }
        }
        Ok(run)
    }

    /// Waits for output, the script's end or its deadline, but not longer than until then. A script that
    /// failed is noticed before its last output is read.
    pub fn step(&mut self, buffer: &mut [u8], until: Instant) -> Result<Step, Fault> {
        loop {
            let now = Instant::now();
            self.still_runs(now)?;
            self.hear();
            if self.stdin.as_mut().is_some_and(Input::give) {
                self.stdin = None;
            }
            if self.exit.is_none() {
                self.exit = self.group.exit().map_err(Fault::Pipe)?;
            }
            if let Some(exit) = self.exit.filter(|exit| *exit != Exit::Code(0)) {
                // It may have been ended for one of these reasons between the two looks.
                self.still_runs(now)?;
                self.hear();
                self.group.finish();
                return Err(Fault::Exit(exit));
            }
            match read(&mut self.stdout, buffer).map_err(Fault::Pipe)? {
                Some(0) => self.stdout = None,
                Some(count) => return Ok(Step::Bytes(count)),
                None => {}
            }
            if self.stdout.is_none() && self.exit.is_some() {
                self.hear();
                self.group.finish();
                return Ok(Step::Ended);
            }
            if now >= until {
                return Ok(Step::Nothing);
            }
            self.wait(until.min(self.group.deadline())).map_err(Fault::Pipe)?;
        }
    }

    /// The end of what it has written to its standard error.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said).trim().to_owned()
    }

    /// Whether somebody has ended it, or its time is up.
    fn still_runs(&self, now: Instant) -> Result<(), Fault> {
        let why = if self.group.is_over() { self.group.why() } else { None };
        match why {
            Some(why) => Err(Fault::Ended(why, self.exit)),
            None if now >= self.group.deadline() => Err(Fault::Ended(Why::Timeout, self.exit)),
            None => Ok(()),
        }
    }

    /// Takes what is there of the standard error, and keeps its end.
    fn hear(&mut self) {
        let mut buffer = [0; TAIL];
        // As much as a pipe holds: one that never stops must not keep us here.
        for _ in 0..16 {
            match read(&mut self.stderr, &mut buffer) {
                Ok(Some(count)) if count > 0 => {
                    self.said.extend_from_slice(&buffer[..count]);
                    let beyond = self.said.len().saturating_sub(TAIL);
                    self.said.drain(..beyond);
                }
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => self.stderr = None,
            }
        }
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        let mut fds = Vec::with_capacity(4);
        if let Some(stdout) = &self.stdout {
            fds.push(PollFd::new(stdout, PollFlags::IN));
        }
        if let Some(stderr) = &self.stderr {
            fds.push(PollFd::new(stderr, PollFlags::IN));
        }
        if let Some(stdin) = &self.stdin {
            fds.push(PollFd::new(&stdin.pipe, PollFlags::OUT));
        }
        let ended = self.group.ended();
        if self.exit.is_none() {
            fds.push(PollFd::new(&ended, PollFlags::IN));
        }
        wait(&mut fds, until.saturating_duration_since(Instant::now()))
    }
}

/// A script whose output nobody wants, or that failed, has no use any more.
impl Drop for Run {
    fn drop(&mut self) {
        let input = self.stdin.take().map(|input| OwnedFd::from(input.pipe));
        self.group.end(Why::Unwanted, input);
    }
}

/// A body in memory on its way to the script.
struct Input {
    pipe: ChildStdin,
    bytes: Vec<u8>,
    at: usize,
}

impl Input {
    /// Gives as much as the pipe takes; whether that was all, or the script wants no more.
    fn give(&mut self) -> bool {
        while self.at < self.bytes.len() {
            match self.pipe.write(&self.bytes[self.at..]) {
                Ok(count) => self.at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// Reads what is there; `None` where that is nothing, or there is no pipe.
fn read(pipe: &mut Option<impl Read + AsFd>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(pipe) = pipe else { return Ok(None) };
    loop {
        return match pipe.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
    }
}

/// Waits until one of these is ready, or for so long.
pub(super) fn wait(fds: &mut [PollFd<'_>], most: Duration) -> io::Result<()> {
    let most = Timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: most.subsec_nanos().into(),
    };
    match poll(fds, Some(&most)) {
        // Whoever waits looks again, whatever woke it.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
