//! Which files may be run as programs, and what these find.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;

/// Where a child finds other programs, whatever the node's own environment says.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Execute permission of anybody.
const EXECUTE: u32 = 0o111;
/// Write permission of everybody.
const OTHERS_WRITE: u32 = 0o002;

/// Whether the file has execute permission.
pub(crate) fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & EXECUTE != 0
}

/// Whether everybody may write to the file or directory, and so decide what is run.
pub(crate) fn is_world_writable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & OTHERS_WRITE != 0
}
