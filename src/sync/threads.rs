//! Starting threads: the only place that does, so that each has a name.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread with this name. Fails at the machine's limit on threads or memory, which is
/// temporary; the caller decides what to do.
pub(crate) fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(work)
}

/// As [`spawn`], with a stack of this size in bytes. Only the used part takes memory.
pub(crate) fn spawn_with_stack<T: Send + 'static>(
    name: impl Into<String>,
    stack: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).stack_size(stack).spawn(work)
}
