//! The identity that counts at present, and how a new set of files takes its place.
//!
//! In scope: noticing that files changed, checking them as a set, the exchange. Not in scope: when
//! to look, and what becomes of live links (`node`).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::UnixTime;

use super::Identity;
use super::error::{Fault, IdentityError};
use crate::config::{CrlFile, IdentityFiles};
use crate::peer::Role;

/// Looks without two equal ones in a row after which changed files are read all the same.
const PATIENCE: u32 = 3;

/// Holds a node's identity.
pub struct Keeper {
    files: IdentityFiles,
    crl: CrlFile,
    role: Role,
    /// Guards which identity counts, and its number. Held for moments, never while files are read.
    current: Mutex<(u64, Arc<Identity>)>,
    /// Guards what the files looked like. Held while they are read: only one at a time does that.
    looks: Mutex<Looks>,
}

/// What came of files that were read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether this node shows another certificate now.
    pub new_certificate: bool,
}

impl Keeper {
    /// Reads and checks the files as of `now`.
    pub fn load(
        files: IdentityFiles,
        crl: CrlFile,
        role: Role,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        // Taken first, so that a change during the reading shows in the next look.
        let stamp = stamp(&files, &crl.path);
        let identity = Identity::load_with_crl(&files, &crl, role, now)?;
        Ok(Self {
            files,
            crl,
            role,
            current: Mutex::new((0, Arc::new(identity))),
            looks: Mutex::new(Looks { tried: stamp, seen: stamp, unsettled: 0 }),
        })
    }

    /// The identity that counts.
    pub fn current(&self) -> Arc<Identity> {
        Arc::clone(&lock(&self.current).1)
    }

    /// The identity that counts, and its number: each one that takes its place has the next.
    pub fn numbered(&self) -> (u64, Arc<Identity>) {
        let current = lock(&self.current);
        (current.0, Arc::clone(&current.1))
    }

    /// Looks at the files, and reads them where they changed since they were last read and have
    /// settled: whoever copies several files has a moment between two of them. None: nothing to do.
    pub fn look(&self, now: UnixTime) -> Option<Result<Reloaded, IdentityError>> {
        let mut looks = lock(&self.looks);
        let stamp = stamp(&self.files, &self.crl.path);
        looks.is_to_be_read(stamp).then(|| self.read(now))
    }

    /// Reads the files at once. On an error the old identity stays.
    pub fn reload(&self, now: UnixTime) -> Result<Reloaded, IdentityError> {
        let mut looks = lock(&self.looks);
        looks.tried = stamp(&self.files, &self.crl.path);
        self.read(now)
    }

    fn read(&self, now: UnixTime) -> Result<Reloaded, IdentityError> {
        let old = self.current();
        let identity = Identity::load_with_crl(&self.files, &self.crl, self.role, now)?;
        if let (Some(gone), None) = (old.crl(), identity.crl()) {
            return Err(IdentityError::new(gone, Fault::CrlGone));
        }
        let new_certificate = !identity.shows_the_same(&old);
        let mut current = lock(&self.current);
        *current = (current.0 + 1, Arc::new(identity));
        Ok(Reloaded { new_certificate })
    }
}

/// What tells one state of a file from another, also where a symbolic link was replaced: device,
/// inode, size, and the times of its content and of its inode.
type Mark = (u64, u64, u64, (i64, i64), (i64, i64));

/// One of each file; none where it cannot be looked at.
type Stamp = [Option<Mark>; 4];

fn stamp(files: &IdentityFiles, crl: &Path) -> Stamp {
    [&files.key, &files.crt, &files.ca, crl as &Path].map(|file: &Path| {
        // Follows links, so this is the file that would be read.
        let found = fs::metadata(file).ok()?;
        let times = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        Some((found.dev(), found.ino(), found.size(), times.0, times.1))
    })
}

struct Looks {
    /// As it was when the files were last read, well or not.
    tried: Stamp,
    /// As it was at the last look.
    seen: Stamp,
    /// Looks in a row that all differed.
    unsettled: u32,
}

impl Looks {
    fn is_to_be_read(&mut self, stamp: Stamp) -> bool {
        if stamp == self.tried {
            self.unsettled = 0;
            self.seen = stamp;
            return false;
        }
        if stamp != self.seen && self.unsettled < PATIENCE {
            self.unsettled += 1;
            self.seen = stamp;
            return false;
        }
        self.unsettled = 0;
        self.seen = stamp;
        self.tried = stamp;
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: u64) -> Stamp {
        [Some((1, 1, size, (0, 0), (0, 0))), None, None, None]
    }

    #[test]
    fn files_are_read_once_per_change_and_when_they_have_settled() {
        let mut looks = Looks { tried: of(1), seen: of(1), unsettled: 0 };
        let mut read = |size| looks.is_to_be_read(of(size));
        assert_eq!(
            [1, 1, 2, 3, 3, 3, 3].map(&mut read),
            [false, false, false, false, true, false, false]
        );
        // And after a while even if they never do.
        assert_eq!([4, 5, 6, 7, 8].map(&mut read), [false, false, false, true, false]);
    }
}
