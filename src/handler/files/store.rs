//! Storing and removing files.
//!
//! A file is stored atomically: it is written under another name in the same directory, synced to
//! disk, and then renamed. A concurrent reader sees either the old file or the new one.
//!
//! A link stands for the file to which it leads: that is stored and judged by conditions, and the
//! link stays. Removing is about names, as with rm(1): it removes the link.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, File, Metadata, OpenOptions, PermissionsExt};
use parking_lot::Mutex;

use super::conditions::{self, Precondition, Version};
use super::path::UNFINISHED;
use super::problem::{FileProblem, is_directory, not_a_file, precondition_failed};
use crate::event::{Body, Event, Reply, errors};

/// Maximum number of links that are followed one after the other, as in the kernel
/// (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Read size for a body, in bytes.
const BUFFER_SIZE: usize = 64 * 1024;

/// Stores the body. Returns 201 if the file is new, 204 otherwise. `writing` is held while the
/// conditions are checked and the file is replaced.
pub(super) fn put(
    dir: &Dir,
    writing: &Mutex<()>,
    path: &Path,
    event: &mut Event,
) -> Result<Reply, FileProblem> {
    if event.header("content-range").is_some() {
        let message = "a part of a file cannot be stored; send all of it without Content-Range";
        return Err(FileProblem::refused(errors::PARTIAL_PUT, message));
    }
    // Checked before the body is read, so that the caller need not send it.
    let stands = check(dir, path, event)?;
    let file = followed(dir, path)?;
    let destination = Destination::of(dir, &file).map_err(without_directory)?;
    let mut unfinished = Unfinished::create(&destination.parent)?;
    copy(&mut event.body, &mut unfinished.file)?;
    if let Some(stands) = stands {
        // The permission bits without setuid, setgid and sticky.
        let mode = stands.permissions().mode() & 0o777;
        unfinished.file.set_permissions(PermissionsExt::from_mode(mode))?;
    }
    unfinished.file.sync_all()?;
    let version = Version::of(&unfinished.file.metadata()?);
    let lock = writing.lock();
    let replaced = check(dir, path, event)?;
    unfinished.rename(&destination.name)?;
    drop(lock);
    destination.sync()?;
    let status = if replaced.is_some() { 204 } else { 201 };
    Ok(version.mark(Reply::new("", Body::empty()).with_status(status)))
}

/// Removes a file or a link: 204.
pub(super) fn delete(
    dir: &Dir,
    writing: &Mutex<()>,
    path: &Path,
    event: &Event,
) -> Result<Reply, FileProblem> {
    let lock = writing.lock();
    check(dir, path, event)?;
    let destination = Destination::of(dir, path)?;
    let metadata = destination.parent.symlink_metadata(&destination.name)?;
    if metadata.is_dir() {
        return Err(is_directory());
    }
    destination.parent.remove_file(&destination.name)?;
    drop(lock);
    destination.sync()?;
    Ok(Reply::new("", Body::empty()).with_status(204))
}

/// The path after following the links at its end, also where they lead to a file that does not exist
/// yet. The kernel follows those before the end, and refuses what leads out of the directory.
fn followed(dir: &Dir, path: &Path) -> Result<PathBuf, FileProblem> {
    let mut path = path.to_owned();
    // Once more, to see that the last one leads to no further link.
    for _ in 0..=MAX_LINKS {
        match dir.symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = dir.read_link(&path)?;
                // Also one that does not exist: no file can be there.
                if names_directory(&target) {
                    return Err(is_directory());
                }
                path.pop();
                path.push(target);
            }
            // If it is missing, it will be created there.
            _ => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP).into())
}

/// Whether a path ends so that only a directory can be there (path_resolution(7)).
fn names_directory(path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    [&b"/"[..], b"/.", b"/.."].iter().any(|end| path.ends_with(end))
}

/// Returns the metadata of the existing file, following links. Fails if the request may not change
/// it.
fn check(dir: &Dir, path: &Path, event: &Event) -> Result<Option<Metadata>, FileProblem> {
    let found = match dir.metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(is_directory()),
        Ok(metadata) if !metadata.is_file() => return Err(not_a_file()),
        Ok(metadata) => Some(metadata),
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(error.into()),
    };
    match conditions::check(event, found.as_ref().map(Version::of).as_ref(), false) {
        Precondition::Holds => Ok(found),
        Precondition::NotModified | Precondition::Failed => Err(precondition_failed()),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A missing directory is not created: that would hide a typo in its name.
fn without_directory(error: io::Error) -> FileProblem {
    if is_missing(&error) {
        let message = "the directory that it would be in does not exist";
        FileProblem::refused(errors::NO_DIRECTORY, message)
    } else {
        error.into()
    }
}

/// A name in an open directory, so that the directory cannot be replaced between two operations.
struct Destination {
    parent: Dir,
    name: PathBuf,
}

impl Destination {
    fn of(dir: &Dir, path: &Path) -> io::Result<Self> {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => dir.open_dir(parent)?,
            _ => dir.try_clone()?,
        };
        Ok(Self { parent, name: path.file_name().unwrap_or_default().into() })
    }

    /// Syncs the directory to disk, if it is readable and the file system supports that.
    fn sync(&self) -> io::Result<()> {
        match self.parent.open(".").and_then(|directory| directory.sync_all()) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

/// A file that is being written; removed on drop unless it was renamed.
struct Unfinished<'a> {
    parent: &'a Dir,
    name: String,
    file: File,
    is_renamed: bool,
}

impl<'a> Unfinished<'a> {
    fn create(parent: &'a Dir) -> io::Result<Self> {
        let name = format!("{UNFINISHED}{:016x}", fastrand::u64(..));
        let file = parent.open_with(&name, OpenOptions::new().write(true).create_new(true))?;
        Ok(Self { parent, name, file, is_renamed: false })
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        self.parent.rename(&self.name, self.parent, to)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_renamed
            && let Err(error) = self.parent.remove_file(&self.name)
        {
            log::warn!("files: {} could not be removed: {error}", self.name);
        }
    }
}

fn copy(body: &mut Body, file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(()),
            count => file.write_all(&buffer[..count])?,
        }
    }
}
