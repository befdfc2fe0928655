//! The files of a CA's directory: created or replaced atomically, by one process at a time.
//!
//! In scope: writing. Not in scope: what is written.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::error::{CaError, CaFault};
use super::layout::LOCK;
use crate::fs::{Directory, create_directories};
use crate::identity::error::IdentityFault;

/// How long to wait for another process that writes in the same directory.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The interval of attempts to take a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Held from reading the files to changing them. The system releases it when the process exits; the
/// file stays and means nothing by itself.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for at most ten seconds.
    pub fn take(dir: &Path) -> Result<Self, CaError> {
        let path = dir.join(LOCK);
        let failed = |e: io::Error| CaError::new(&path, IdentityFault::Unwritable(e.to_string()));
        let opened = Directory::open(dir).and_then(|dir| dir.open_lock(OsStr::new(LOCK)));
        let file = opened.map_err(failed)?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::WouldBlock) => {
                    let why =
                        "another rp_ca has held this lock for 10 s; try again when it has finished";
                    return Err(CaError::new(&path, CaFault::other(why)));
                }
            }
        }
    }
}

/// Creates a directory with mode 0700, and its parents.
pub(super) fn make_directory(dir: &Path) -> Result<(), CaError> {
    match create_directories(dir) {
        Ok(_) => Ok(()),
        Err(error) => Err(CaError::new(dir, IdentityFault::Unwritable(error.to_string()))),
    }
}

/// Fails if one of these exists, whatever it is.
pub(super) fn refuse_existing(files: &[&Path]) -> Result<(), CaError> {
    match files.iter().find(|file| fs::symlink_metadata(file).is_ok()) {
        Some(file) => Err(exists(file)),
        None => Ok(()),
    }
}

/// New files that are written together: all of them, or none.
#[derive(Default)]
pub(super) struct NewFiles {
    written: Vec<(Directory, OsString)>,
}

impl NewFiles {
    /// Writes one more. Fails if the file exists.
    pub fn write(&mut self, path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
        let mut create = || {
            let (directory, name) = Directory::of(path)?;
            let file = directory.create(name, mode)?;
            self.written.push((directory, name.to_owned()));
            Ok(file)
        };
        let written = create().and_then(|mut file: File| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| failed(path, &error))
    }

    /// Adds a file that was just created.
    pub fn adopt(&mut self, path: &Path) -> Result<(), CaError> {
        let (directory, name) = Directory::of(path).map_err(|error| failed(path, &error))?;
        self.written.push((directory, name.to_owned()));
        Ok(())
    }

    /// Keeps the files.
    pub fn keep(mut self) {
        self.written.drain(..).for_each(|(directory, _)| directory.sync());
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for (directory, name) in self.written.iter().rev() {
            let _ = directory.remove(name);
        }
    }
}

/// Replaces or creates a file atomically: there is always either the old or the new content.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    crate::fs::replace(path, text.as_bytes(), mode).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> CaError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => CaError::new(path, IdentityFault::Unwritable(error.to_string())),
    }
}

fn exists(path: &Path) -> CaError {
    let why = "is there already and stays as it is; nothing was made";
    CaError::new(path, CaFault::other(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_files_that_were_not_kept_are_gone_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("old"), "old").unwrap();
        let mut new = NewFiles::default();
        new.write(&path("a"), "a", 0o600).unwrap();
        assert_eq!(new.write(&path("old"), "new", 0o600), Err(exists(&path("old"))));
        drop(new);
        assert!(!path("a").exists());
        assert_eq!(fs::read(path("old")).unwrap(), b"old");
    }

    #[test]
    fn a_replacement_that_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, "1", 0o644).unwrap();
        replace(&path, "2", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = replace(&path, "3", 0o644).unwrap_err();
        assert_eq!(error.file, path);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_at_a_time_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let path = dir.path().to_owned();
        let waiter = thread::spawn(move || {
            let second = Lock::take(&path).map(|_| ());
            tell.send(()).unwrap();
            second
        });
        // A thread that does not wait returns at once.
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
        drop(first);
        waiter.join().unwrap().unwrap();
    }
}
