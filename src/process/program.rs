//! Which files may be run as programs, and the search path these get.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;

/// The search path of a child, regardless of the node's own environment.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Execute permission for anyone.
const EXECUTE: u32 = 0o111;
/// Write permission for others.
const OTHERS_WRITE: u32 = 0o002;

/// Whether the file has execute permission.
pub(crate) fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & EXECUTE != 0
}

/// Whether the file or directory is world-writable, so that any user decides what is run.
pub(crate) fn is_world_writable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & OTHERS_WRITE != 0
}
