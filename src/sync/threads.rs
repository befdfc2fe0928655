//! Starting threads: the only place that does, so that each has a name.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread of this name. The caller decides what a failure costs; it is the machine's limit on
/// threads or memory, and passes.
pub(crate) fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(work)
}

/// As [`spawn`], with a stack of so many bytes. Only what is used of it takes memory.
pub(crate) fn spawn_with_stack<T: Send + 'static>(
    name: impl Into<String>,
    stack: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).stack_size(stack).spawn(work)
}
