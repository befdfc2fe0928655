//! Opening and reading regular files only: opening a FIFO blocks, and opening a device can have
//! side effects.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file for reading. Links are followed.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // Other types are not even opened; if one replaces the file meanwhile, opening does not block.
    check_kind(&std::fs::metadata(path)?)?;
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    check_kind(&metadata)?;
    Ok((file, metadata))
}

/// The whole of a regular file of at most `limit` bytes. Links are followed. A larger one is
/// [`io::ErrorKind::FileTooLarge`].
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_open(&open(path)?.0, limit)
}

/// Whether nothing has this name. What cannot be examined counts as existing.
pub(crate) fn is_missing(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The rest of an open file, at most `limit` bytes.
pub(crate) fn read_open(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than the limit, to detect a larger file.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let why = format!("larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// A directory gives the system's own error.
pub(super) fn check_kind(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        Err(io::Error::from_raw_os_error(libc::EISDIR))
    } else if metadata.is_file() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::read_guarded;
    use super::*;

    #[test]
    fn only_regular_files_within_their_bound_are_read_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "12345").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        for read in [read, read_guarded] {
            assert_eq!(read(&path("file"), 5).unwrap(), b"12345");
            assert_eq!(read(&path("link"), 5).unwrap(), b"12345");
            let kind = |name: &str, limit| read(&path(name), limit).unwrap_err().kind();
            assert_eq!(kind("file", 4), io::ErrorKind::FileTooLarge);
            assert_eq!(kind("none", 5), io::ErrorKind::NotFound);
            assert_eq!(kind("", 5), io::ErrorKind::IsADirectory);
            assert_eq!(read(&path("fifo"), 5).unwrap_err().to_string(), "not a regular file");
            assert_eq!(
                read(Path::new("/dev/zero"), 5).unwrap_err().to_string(),
                "not a regular file"
            );
        }
    }
}
