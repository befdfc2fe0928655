//! One run of a script; the thread that reads its output serves all its pipes.
//!
//! If nothing reads, the script blocks as on any pipe: on writing output, and on reading the rest
//! of a buffered body. Its deadline applies regardless.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::body_proof::{self, BodyProof};
use super::error::ScriptError;
use super::feed;
use crate::event::Body;
use crate::process::group::Exit;
use crate::process::pipes::{read_available, wait_ready};
use crate::process::stderr_tail::StderrTail;
use crate::process::supervisor::{EndReason, SupervisedChild, Supervisor};
use crate::sync::deadline::time_left;
use crate::sync::shares::Place;

/// How much of the end of a script's standard error is kept, in bytes.
const MAX_STDERR: usize = 4 * 1024;

/// How to start a script.
pub(super) struct Call<'a> {
    pub path: &'a Path,
    pub dir: &'a Path,
    /// The arguments, without NUL.
    pub arguments: &'a [String],
    /// The complete environment, without NUL.
    pub variables: &'a [(String, String)],
    /// When the script is terminated.
    pub deadline: Instant,
}

/// A running script. Dropping it terminates the script's whole process group.
pub(super) struct Run {
    child: SupervisedChild,
    stdin: Option<Input>,
    stdout: Option<ChildStdout>,
    stderr: StderrTail,
    exit: Option<Exit>,
}

/// The result of waiting for output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This many bytes of output.
    Bytes(usize),
    /// The script has exited successfully, and its output is complete.
    Ended,
    /// Nothing until the timeout.
    Nothing,
}

impl Run {
    /// Starts a script. Never uses a shell: a file that is neither a program nor has a `#!` line is
    /// an error.
    pub fn start(
        call: &Call<'_>,
        body: Body,
        supervisor: &Supervisor,
        place: Place,
    ) -> io::Result<Self> {
        let has_body = body.whole().is_none_or(|bytes| !bytes.is_empty());
        let (proof_reader, proof) = body_proof::pair()?;
        let mut command = Command::new(call.path);
        command
            .args(call.arguments)
            .env_clear()
            .envs(call.variables.iter().map(|(name, value)| (name, value)))
            .env(body_proof::VARIABLE, proof_reader.path())
            .current_dir(call.dir)
            .stdin(if has_body { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let inherited = Some(proof_reader.as_fd());
        let (child, pipes) = supervisor.spawn(&mut command, inherited, call.deadline, place)?;
        let stderr = StderrTail::new(pipes.stderr, MAX_STDERR);
        let mut run = Self { child, stdin: None, stdout: pipes.stdout, stderr, exit: None };
        match (pipes.stdin, body.whole()) {
            (Some(pipe), Some(bytes)) => {
                run.stdin = Some(Input { pipe, bytes: bytes.to_vec(), at: 0, proof });
            }
            (Some(pipe), None) => feed::start(&run.child, pipe, body, proof)?,
            (None, _) => proof.give(),
        }
        Ok(run)
    }

    /// Waits for output, the script's exit or its deadline, but not beyond `until`. A script that
    /// failed is reported before its last output is read.
    pub fn step(&mut self, buffer: &mut [u8], until: Instant) -> Result<Step, ScriptError> {
        loop {
            let now = Instant::now();
            self.check_not_ended(now)?;
            self.stderr.drain();
            if let Some(input) = self.stdin.take_if(Input::write_available) {
                input.close();
            }
            if self.exit.is_none() {
                self.exit = self.child.exit().map_err(ScriptError::Pipe)?;
            }
            if let Some(exit) = self.exit.filter(|exit| *exit != Exit::Code(0)) {
                // It may have been terminated between the two checks.
                self.check_not_ended(now)?;
                self.stderr.drain();
                self.child.finish();
                return Err(ScriptError::exited(exit));
            }
            if let Some(stdout) = &mut self.stdout {
                match read_available(stdout, buffer).map_err(ScriptError::Pipe)? {
                    Some(0) => self.stdout = None,
                    Some(count) => return Ok(Step::Bytes(count)),
                    None => {}
                }
            }
            if self.stdout.is_none() && self.exit.is_some() {
                self.stderr.drain();
                self.child.finish();
                return Ok(Step::Ended);
            }
            if now >= until {
                return Ok(Step::Nothing);
            }
            self.wait(until.min(self.child.deadline())).map_err(ScriptError::Pipe)?;
        }
    }

    /// The end of its standard error.
    pub fn stderr_tail(&self) -> String {
        self.stderr.text()
    }

    /// Fails if it was terminated or its deadline has passed.
    fn check_not_ended(&self, now: Instant) -> Result<(), ScriptError> {
        match self.child.end_reason() {
            Some(reason) => Err(ScriptError::ended(reason.clone(), self.exit)),
            None if now >= self.child.deadline() => {
                Err(ScriptError::ended(EndReason::Timeout, self.exit))
            }
            None => Ok(()),
        }
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        let mut fds = Vec::with_capacity(4);
        if let Some(stdout) = &self.stdout {
            fds.push(PollFd::new(stdout, PollFlags::IN));
        }
        if let Some(stderr) = self.stderr.pipe() {
            fds.push(PollFd::from_borrowed_fd(stderr, PollFlags::IN));
        }
        if let Some(stdin) = &self.stdin {
            fds.push(PollFd::new(&stdin.pipe, PollFlags::OUT));
        }
        if self.exit.is_none() {
            fds.push(PollFd::from_borrowed_fd(self.child.pidfd(), PollFlags::IN));
        }
        wait_ready(&mut fds, time_left(until))
    }
}

/// The output of a running script is no longer wanted, or the script has failed.
impl Drop for Run {
    fn drop(&mut self) {
        let input = self.stdin.take().map(|input| OwnedFd::from(input.pipe));
        self.child.end(EndReason::Unwanted, input);
    }
}

/// A buffered body that is being written to the script.
struct Input {
    pipe: ChildStdin,
    bytes: Vec<u8>,
    at: usize,
    proof: BodyProof,
}

impl Input {
    /// Writes as much as the pipe takes. Returns whether that was all, or the script no longer
    /// reads.
    fn write_available(&mut self) -> bool {
        while self.at < self.bytes.len() {
            match self.pipe.write(&self.bytes[self.at..]) {
                Ok(count) => self.at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn close(self) {
        if self.at == self.bytes.len() {
            self.proof.give();
        }
        // Only now does the script read the end of its input.
        drop(self.pipe);
    }
}
