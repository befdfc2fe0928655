//! Orphans: processes whose parent has exited. Process 1 becomes their parent, and has to reap them.
//!
//! In a container a node is often process 1, and its scripts leave jobs behind.

use std::fs;

use rustix::process::Pid;

use super::group::reap_stranger;

/// Whether orphans become children of this process.
pub(crate) fn are_inherited() -> bool {
    std::process::id() == 1
}

/// Reaps all orphans that have exited, and none of the children that were started here.
pub(crate) fn reap() {
    // Without /proc, or with that of other processes, none are found.
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let own_pid = std::process::id();
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may be gone by now.
        let Ok(stat) = fs::read_to_string(process.path().join("stat")) else { continue };
        if is_dead_child(&stat, own_pid)
            && let Some(pid) = Pid::from_raw(pid)
        {
            reap_stranger(pid);
        }
    }
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
