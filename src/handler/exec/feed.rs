//! A body that arrives as a stream, on its way to a script's standard input. It is the one thing that
//! cannot be polled, so it has a thread.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ChildStdin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::group::{Group, Why};
use super::run::wait;
use crate::event::Body;

/// Most bytes on their way.
const PIECE: usize = 16 * 1024;
/// How often a feeder that waits looks at what else may have happened.
const LOOK: Duration = Duration::from_millis(250);

/// Feeds the body to the script as it comes. It ends when the body does, when the script closes its
/// input, and when the script is over. A body that breaks off ends the script: its input must not look
/// whole.
pub(super) fn start(group: &Arc<Group>, stdin: ChildStdin, body: Body) -> io::Result<()> {
    let group = Arc::clone(group);
    let feed = move || feed(&group, stdin, body);
    thread::Builder::new().name("exec-stdin".to_owned()).spawn(feed).map(drop)
}

fn feed(group: &Group, mut stdin: ChildStdin, mut body: Body) {
    let mut buffer = vec![0; PIECE];
    loop {
        match body.read_within(&mut buffer, LOOK) {
            Ok(Some(0)) => return,
            Ok(Some(count)) => {
                if !give(group, &mut stdin, &buffer[..count]) {
                    break;
                }
            }
            Ok(None) if group.is_over() || wants_no_more(&stdin) => break,
            Ok(None) => {}
            Err(error) => {
                return group.end(Why::Upload(error.to_string()), Some(OwnedFd::from(stdin)));
            }
        }
    }
    // Either the script has closed it, and this closes nothing it could see, or it is being ended.
    group.hold(OwnedFd::from(stdin));
}

/// Whether all of it was taken.
fn give(group: &Group, stdin: &mut ChildStdin, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match stdin.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let waited = wait(&mut [PollFd::new(stdin, PollFlags::OUT)], LOOK);
                if waited.is_err() || group.is_over() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Whether nobody holds the other end any more.
fn wants_no_more(stdin: &ChildStdin) -> bool {
    let mut fds = [PollFd::new(stdin, PollFlags::empty())];
    wait(&mut fds, Duration::ZERO).is_err() || fds[0].revents().contains(PollFlags::ERR)
}
