//! Reading a secret of one line.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// The line in a file without its line end, wiped from memory when dropped, and the file's
/// metadata. Of a line longer than `longest` bytes, more than `longest` but not all bytes are
/// returned.
///
/// The file may be a pipe, such as a shell's `<(command)`.
pub(crate) fn read_secret(
    path: &Path,
    longest: usize,
) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // With its line end, and one byte more. Allocated at once: a growing buffer would leave copies
    // behind.
    let limit = longest + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(limit as u64).read_to_end(&mut bytes)?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok((bytes, metadata))
}
