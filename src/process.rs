//! Child processes: each leads a process group of its own, has a deadline, and is reaped.
//!
//! In scope: starting a child, its pipes, its end and that of its group. Exactly one owner reaps a child
//! and signals its group: the [`run`] that waits for it, or the [`supervisor`]. Also which files may be
//! run at all. Not in scope: what is run, with which arguments, and what its end means.

pub(crate) mod group;
pub(crate) mod pipes;
pub(crate) mod program;
pub(crate) mod run;
pub(crate) mod stderr_tail;
pub(crate) mod supervisor;
