//! Child processes: each leads its own process group, has a deadline, and is reaped.
//!
//! In scope: starting a child, its pipes, and terminating it with its group. Exactly one owner
//! reaps a child and signals its group: [`run`], which waits for it, or the [`supervisor`]. Also
//! the [`orphans`] that process 1 inherits, the limit of open files, and which files may be run at
//! all. Not in scope: what to run, with which arguments, and what its exit status means.

pub(crate) mod group;
pub(crate) mod open_files;
pub(crate) mod orphans;
pub(crate) mod pipes;
pub(crate) mod program;
pub(crate) mod run;
pub(crate) mod stderr_tail;
pub(crate) mod supervisor;
