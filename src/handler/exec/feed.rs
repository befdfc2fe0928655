//! A body that arrives as a stream, on its way to a script's standard input. It is the one thing that
//! cannot be polled, so it has a thread.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ChildStdin;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::event::Body;
use crate::process::pipes::wait_ready;
use crate::process::supervisor::{EndReason, SupervisedChild};
use crate::sync::threads;

/// Most bytes on their way.
const BUFFER_SIZE: usize = 16 * 1024;
/// How often a wait for the body, or for room in the pipe, checks whether the script is over.
const SCRIPT_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Feeds the body to the script as it arrives. It ends when the body does, when the script closes its
/// input, and when the script is over. A body that breaks off ends the script: its input must not look
/// complete.
pub(super) fn start(child: &SupervisedChild, stdin: ChildStdin, body: Body) -> io::Result<()> {
    let child = child.clone();
    threads::spawn("exec-stdin", move || feed(&child, stdin, body)).map(drop)
}

fn feed(child: &SupervisedChild, mut stdin: ChildStdin, mut body: Body) {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match body.read_within(&mut buffer, SCRIPT_POLL_INTERVAL) {
            Ok(Some(0)) => return,
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
    // Either the script has closed it, and this closes nothing it could see, or it is being ended.
    child.hold_input(OwnedFd::from(stdin));
}

/// Returns whether all of it was taken.
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

/// Whether no process has the other end open.
fn is_closed(stdin: &ChildStdin) -> bool {
    let mut fds = [PollFd::new(stdin, PollFlags::empty())];
    wait_ready(&mut fds, Duration::ZERO).is_err() || fds[0].revents().contains(PollFlags::ERR)
}
