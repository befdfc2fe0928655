//! Reaps orphans where the node is process 1, as in most containers.

use std::io;

use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

use crate::process::orphans;
use crate::sync::threads;

/// Starts to reap, if orphans become children of this process.
pub(super) fn start() -> io::Result<()> {
    if !orphans::are_inherited() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGCHLD])?;
    let reap = move || {
        for _ in signals.forever() {
            orphans::reap();
        }
    };
    threads::spawn("orphans", reap).map(drop)
}
