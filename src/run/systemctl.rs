//! Asking systemd, by `systemctl`.

use std::io::Read;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::sync::threads;

/// How long `systemctl` may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of an answer: thousands of sockets.
const MAX_ANSWER: u64 = 1 << 20;

/// The output; `None` if it cannot be run, or does not end in time.
pub(super) fn systemctl(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let answer = child.stdout.take().and_then(read);
    // It has exited or timed out.
    let _ = child.kill();
    let _ = child.wait();
    answer
}

fn read(output: ChildStdout) -> Option<String> {
    let (sender, receiver) = bounded(1);
    threads::spawn("systemctl", move || {
        let mut text = String::new();
        let read = output.take(MAX_ANSWER).read_to_string(&mut text);
        // Disconnected: it timed out.
        let _ = sender.send(read.map(|_| text));
    })
    .ok()?;
    receiver.recv_timeout(ANSWER_TIMEOUT).ok()?.ok()
}
