//! Orphans: processes whose parent has exited. Process 1 becomes their parent, and has to reap them.
//!
//! In a container a node is often process 1, and its scripts leave jobs behind.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::Pid;

use super::group::reap_stranger;
use crate::sync::threads;

/// How often to look for orphans that have exited. Such a one is reaped when it is found the second
/// time: it may be the child of a handler of somebody else's, who waits for it.
const INTERVAL: Duration = Duration::from_secs(4);

/// Starts to reap orphans, if they become children of this process.
pub(crate) fn start_reaping() -> io::Result<()> {
    let parent = std::process::id();
    if parent != 1 {
        return Ok(());
    }
    let reap = move || {
        let mut earlier = BTreeSet::new();
        loop {
            thread::sleep(INTERVAL);
            let dead = dead_children(parent);
            for pid in earlier.intersection(&dead).copied().filter_map(Pid::from_raw) {
                reap_stranger(pid);
            }
            earlier = dead;
        }
    };
    threads::spawn("orphans", reap).map(drop)
}

/// The children of this process that have exited and were not reaped.
fn dead_children(parent: u32) -> BTreeSet<i32> {
    // Without /proc none are found.
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            // It may be gone by now.
            let stat = fs::read_to_string(process.path().join("stat")).ok()?;
            is_dead_child(&stat, parent).then_some(pid)
        })
        .collect()
}

/// Whether this line of `/proc/PID/stat` is of a child of `parent` that has exited: after the
/// program's name in parentheses come the state, `Z`, and the parent's id (proc_pid_stat(5)).
fn is_dead_child(stat: &str, parent: u32) -> bool {
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let mut fields = fields.split_ascii_whitespace();
    fields.next() == Some("Z") && fields.next().and_then(|id| id.parse().ok()) == Some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_child_that_has_exited_is_reaped() {
        for (stat, expected) in [
            ("17 (sh) Z 1 17 17 0 -1", true),
            ("17 (a) Z 1) Z 1 17 17", true),
            ("17 (sh) S 1 17 17 0 -1", false),
            ("17 (sh) Z 2 17 17 0 -1", false),
            ("17 (sh Z 1) S 2 17 17", false),
            ("", false),
        ] {
            assert_eq!(is_dead_child(stat, 1), expected, "{stat}");
        }
    }
}
