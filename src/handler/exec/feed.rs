//! Feeds a streamed body to a script's standard input. The body is the only part that cannot be
//! polled, so it has its own thread.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ChildStdin;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::body_proof::BodyProof;
use crate::event::Body;
use crate::process::pipes::wait_ready;
use crate::process::supervisor::{EndReason, SupervisedChild};
use crate::sync::threads;

/// Size of the copy buffer, in bytes.
const BUFFER_SIZE: usize = 16 * 1024;
/// How often to check whether the script has ended while waiting for the body or for room in the
/// pipe.
const SCRIPT_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Feeds the body to the script as it arrives, until the body ends, the script closes its input, or
/// the script ends. A body that is cut short terminates the script, so that its input never looks
/// complete.
pub(super) fn start(
    child: &SupervisedChild,
    stdin: ChildStdin,
    body: Body,
    proof: BodyProof,
) -> io::Result<()> {
    let child = child.clone();
    threads::spawn("exec-stdin", move || feed(&child, stdin, body, proof)).map(drop)
}

fn feed(child: &SupervisedChild, mut stdin: ChildStdin, mut body: Body, proof: BodyProof) {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match body.read_within(&mut buffer, SCRIPT_POLL_INTERVAL) {
            Ok(Some(0)) => {
                proof.give();
                // Only now, by dropping it, is the input closed.
                return;
            }
            Ok(Some(count)) => {
                if !write_all(child, &mut stdin, &buffer[..count]) {
                    break;
                }
            }
            Ok(None) if child.is_over() || is_closed(&stdin) => break,
            Ok(None) => {}
            Err(error) => {
                let reason = EndReason::InputFailed(error.to_string());
                return child.end(reason, Some(OwnedFd::from(stdin)));
            }
        }
    }
    // Either the script has closed its end, so closing this one would go unnoticed, or it is being
    // terminated.
    child.hold_input(OwnedFd::from(stdin));
}

/// Returns whether all bytes were written.
fn write_all(child: &SupervisedChild, stdin: &mut ChildStdin, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match stdin.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut room = [PollFd::new(stdin, PollFlags::OUT)];
                if wait_ready(&mut room, SCRIPT_POLL_INTERVAL).is_err() || child.is_over() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Whether no process has the read end open.
fn is_closed(stdin: &ChildStdin) -> bool {
    let mut fds = [PollFd::new(stdin, PollFlags::empty())];
    wait_ready(&mut fds, Duration::ZERO).is_err() || fds[0].revents().contains(PollFlags::ERR)
}
