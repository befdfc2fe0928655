//! The limit of open files: raised for this process, and as it was for its children.
//!
//! Services often start with a soft limit of 1,024, for the sake of programs that use `select(2)`,
//! and a hard one of many more. Every connection takes a file or two.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The limit as this process got it, once it was raised.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub(crate) fn use_all() {
    let inherited = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: inherited.maximum, ..inherited };
    // On failure the old limit stays; accepting logs when it is reached.
    if setrlimit(Resource::Nofile, raised).is_ok() {
        let _ = INHERITED.set(inherited);
    }
}

/// How many files may be open; `None` if any number.
pub(crate) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Gives a child that was just started the limit that this process got: it may use `select(2)`.
pub(super) fn restore(child: Pid) {
    if let Some(inherited) = INHERITED.get() {
        // Fails only for a child that has ended already.
        let _ = prlimit(Some(child), Resource::Nofile, *inherited);
    }
}
