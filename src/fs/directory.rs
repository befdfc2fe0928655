//! A directory held open, so that no path component can be replaced by a link while files in it are
//! read and written.
//!
//! Root reads and writes files in directories of other users. The owner of a directory can place
//! links in it, and could make root read or write any file of the system and hand over the result.
//! Therefore, in a directory that belongs neither to root nor to the current user, no symbolic link
//! is followed, no file with several hard links is read unless it belongs to the directory's owner,
//! and what root creates is given to the directory's owner.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::read::{check_kind, read_open};

const ROOT: u32 = 0;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    uid: u32,
    gid: u32,
}

impl Directory {
    /// Opens the directory of an existing or new file; also returns the file's name.
    pub fn of(file: &Path) -> io::Result<(Self, &OsStr)> {
        // A path such as `a/..` has no name.
        let Some(name) = file.file_name() else {
            let kind = if file.is_dir() { libc::EISDIR } else { libc::ENOENT };
            return Err(io::Error::from_raw_os_error(kind));
        };
        Ok((Self::open(parent(file))?, name))
    }

    /// Opens this directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::walk(path, |_, _| Err(Errno::NOENT.into()))
    }

    /// Opens component by component; `missing` creates a missing one.
    fn walk(path: &Path, missing: impl Fn(&Self, &OsStr) -> io::Result<()>) -> io::Result<Self> {
        let start = if path.is_absolute() { "/" } else { "." };
        let fd = rustix::fs::open(
            start,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut at = Self::new(fd)?;
        for part in path.components() {
            let part = match part {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => OsStr::new(".."),
                Component::Normal(part) => part,
            };
            at = match at.enter(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing(&at, part)?;
                    at.enter(part)?
                }
                entered => entered?,
            };
        }
        Ok(at)
    }

    fn new(fd: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, uid: stat.st_uid, gid: stat.st_gid })
    }

    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Self::new(self.open_at(name, flags, Mode::empty())?)
    }

    fn make(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            // Another process was faster.
            Err(Errno::EXIST) => return Ok(()),
            made => made?,
        }
        if !self.gives_away() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        // Another directory of root's may have been moved there; that one is not given away.
        let is_dots =
            |name: &rustix::fs::DirEntry| matches!(name.file_name().to_bytes(), b"." | b"..");
        let mut entries = Dir::read_from(&made)?;
        if !entries.all(|entry| entry.is_ok_and(|entry| is_dots(&entry))) {
            return Err(io::Error::other("another directory has taken the place of the new one"));
        }
        fchown(&made, Some(self.uid), Some(self.gid))
    }

    /// Whether it has an owner whose links must not be followed.
    fn is_foreign(&self) -> bool {
        self.uid != ROOT && self.uid != effective_user()
    }

    /// Whether new files are given to its owner.
    fn gives_away(&self) -> bool {
        self.is_foreign() && effective_user() == ROOT
    }

    fn open_at(&self, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let no_follow = if self.is_foreign() { OFlags::NOFOLLOW } else { OFlags::empty() };
        let opened = rustix::fs::openat(&self.fd, name, flags | no_follow | OFlags::CLOEXEC, mode);
        opened.map_err(|errno| {
            // With O_DIRECTORY a link gives ENOTDIR.
            let may_be_link = matches!(errno, Errno::LOOP | Errno::NOTDIR);
            let is_link = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            if self.is_foreign() && may_be_link && self.stat(name).is_ok_and(is_link) {
                not_followed(name)
            } else {
                errno.into()
            }
        })
    }

    /// Does not follow a link.
    fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The type of what has this name; `None` if nothing has it.
    pub fn kind(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole of a regular file of at most `limit` bytes. A larger one is
    /// [`io::ErrorKind::FileTooLarge`].
    pub fn read(&self, name: &OsStr, limit: u64) -> io::Result<Vec<u8>> {
        // Other types are not even opened: see `read::open`.
        if matches!(self.kind(name)?, Some(kind) if !matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory))
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_at(name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        check_kind(&metadata)?;
        if self.is_foreign() && metadata.nlink() > 1 && metadata.uid() != self.uid {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it has a second name (a hard link) and does not belong to the directory's owner; \
                 copy it instead",
            ));
        }
        read_open(&file, limit)
    }

    /// Creates a new file; [`io::ErrorKind::AlreadyExists`] if the name exists.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = File::from(self.open_at(name, flags, Mode::from_raw_mode(mode))?);
        self.give_away(&file).inspect_err(|_| {
            // The first error is the one to report.
            let _ = self.remove(name);
        })?;
        Ok(file)
    }

    /// Opens a regular file to lock, and creates it if it is missing.
    pub fn open_lock(&self, name: &OsStr) -> io::Result<File> {
        match self.create(name, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
        let file =
            File::from(self.open_at(name, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?);
        check_kind(&file.metadata()?)?;
        Ok(file)
    }

    fn give_away(&self, file: &File) -> io::Result<()> {
        if self.gives_away() { fchown(file, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Renames within it, replacing what has the new name.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Exchanges two names. Not every file system supports it.
    pub fn exchange(&self, one: &OsStr, other: &OsStr) -> io::Result<()> {
        let (fd, flags) = (&self.fd, RenameFlags::EXCHANGE);
        Ok(rustix::fs::renameat_with(fd, one, fd, other, flags)?)
    }

    /// Removes a name other than a directory.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Makes new names survive a power failure. Errors are ignored: the files are in place even if
    /// the file system cannot guarantee that.
    pub fn sync(&self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
        let _ = opened.and_then(rustix::fs::fsync);
    }
}

/// As [`read`](super::read), for commands that root runs: see [`Directory`] for the links that are
/// not followed.
pub(crate) fn read_guarded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (directory, name) = Directory::of(path)?;
    directory.read(name, limit)
}

/// Creates a directory with mode 0700, and its parents.
pub(crate) fn create_directories(path: &Path) -> io::Result<Directory> {
    Directory::walk(path, Directory::make)
}

/// The directory a file is in, also for a bare name.
pub(super) fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn not_followed(name: &OsStr) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} is a symbolic link in a directory of another user, which is not followed; name \
             what it leads to",
            name.to_string_lossy()
        ),
    )
}
