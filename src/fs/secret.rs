//! Reading a secret of one line.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// The line in a file without its line end, wiped from memory when dropped, and what the file is.
/// Of a longer one than `longest` bytes, more than that comes back, though not all of it.
///
/// The file may be a pipe: a shell's `<(command)` hands over a secret that is in no file.
pub(crate) fn read_secret(
    path: &Path,
    longest: usize,
) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // With its line end, and one byte more. All at once, so that no part is left behind where a
    // growing buffer was before.
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
