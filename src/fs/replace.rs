//! Replacing a file: write beside it, set the mode, sync, rename, sync the directory. There is
//! always either the old file or the new one.
//!
//! The old file is renamed or removed; it is never read, and never followed if it is a link.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::FileType;

use super::directory::Directory;

/// Replaces or creates a file with this mode.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (directory, name) = Directory::of(path)?;
    let mut new = Replacement::prepare(directory, name, bytes, mode)?;
    new.directory.rename(&new.beside, name)?;
    new.is_beside = false;
    new.keep();
    Ok(())
}

/// A prepared replacement; once committed, it holds the old file until it is kept or rolled back.
#[derive(Debug)]
pub(crate) struct Replacement {
    directory: Directory,
    name: OsString,
    /// The temporary name of the new file, after the commit that of the old one.
    beside: OsString,
    /// Whether that name exists; it is removed on drop.
    is_beside: bool,
    is_committed: bool,
}

impl Replacement {
    /// Writes the new file under a temporary name in the same directory.
    pub fn prepare(
        directory: Directory,
        name: &OsStr,
        bytes: &[u8],
        mode: u32,
    ) -> io::Result<Self> {
        let beside = unused_name(name);
        let mut file = directory.create(&beside, mode)?;
        let name = name.to_owned();
        let new = Self { directory, name, beside, is_beside: true, is_committed: false };
        // Restores the bits that the umask removed, so that readers of the old file can read the
        // new one.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(new)
    }

    /// Renames the new file into place. The old one keeps a temporary name.
    pub fn commit(&mut self) -> io::Result<()> {
        match self.directory.kind(&self.name)? {
            None => {
                self.directory.rename(&self.beside, &self.name)?;
                self.is_beside = false;
            }
            Some(FileType::Directory) => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Some(_) => self.exchange()?,
        }
        self.is_committed = true;
        Ok(())
    }

    fn exchange(&mut self) -> io::Result<()> {
        let Err(error) = self.directory.exchange(&self.beside, &self.name) else { return Ok(()) };
        if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) {
            return Err(error);
        }
        // The file system cannot exchange names.
        let aside = unused_name(&self.name);
        self.directory.rename(&self.name, &aside)?;
        if let Err(error) = self.directory.rename(&self.beside, &self.name) {
            let _ = self.directory.rename(&aside, &self.name);
            return Err(error);
        }
        self.beside = aside;
        Ok(())
    }

    /// Restores the old file. Best effort: the failure that caused the rollback is the one to
    /// report. A file that cannot be restored keeps its temporary name.
    pub fn take_back(&mut self) {
        if !self.is_committed {
            return;
        }
        let _ = match std::mem::take(&mut self.is_beside) {
            true => self.directory.rename(&self.beside, &self.name),
            false => self.directory.remove(&self.name),
        };
    }

    /// Keeps the new file.
    pub fn keep(self) {
        self.directory.sync();
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.is_beside {
            let _ = self.directory.remove(&self.beside);
        }
    }
}

fn unused_name(name: &OsStr) -> OsString {
    let mut unused = OsString::from(".");
    unused.push(name);
    unused.push(format!(".{:016x}", fastrand::u64(..)));
    unused
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn prepared(path: &Path) -> Replacement {
        let (directory, name) = Directory::of(path).unwrap();
        Replacement::prepare(directory, name, b"new", 0o600).unwrap()
    }

    fn count(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path()).unwrap().count()
    }

    #[test]
    fn what_was_there_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "old").unwrap();
        symlink("elsewhere", path("link")).unwrap();
        for name in ["file", "link", "none"] {
            let mut new = prepared(&path(name));
            new.commit().unwrap();
            assert_eq!(fs::read(path(name)).unwrap(), b"new");
            new.take_back();
        }
        assert_eq!(fs::read(path("file")).unwrap(), b"old");
        assert_eq!(fs::read_link(path("link")).unwrap(), Path::new("elsewhere"));
        assert_eq!(count(&dir), 2);
    }

    #[test]
    fn what_is_kept_leaves_nothing_beside_it_and_a_link_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("old"), "old").unwrap();
        symlink("old", path("one")).unwrap();
        symlink("old", path("two")).unwrap();
        let mut new = prepared(&path("one"));
        new.commit().unwrap();
        new.keep();
        replace(&path("two"), b"new", 0o600).unwrap();
        drop(prepared(&path("three")));
        for (name, content) in [("one", b"new"), ("two", b"new"), ("old", b"old")] {
            assert_eq!(fs::read(path(name)).unwrap(), content);
            assert!(fs::symlink_metadata(path(name)).unwrap().is_file());
        }
        assert_eq!(count(&dir), 3);
    }

    #[test]
    fn a_directory_in_the_way_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::create_dir(&path).unwrap();
        let error = prepared(&path).commit().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = replace(&path, b"new", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert_eq!(count(&dir), 1);
    }
}
