//! Detects that files changed and have settled.
//!
//! In scope: file metadata. Not in scope: content, and when to poll.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The number of differing polls in a row after which changed files are read anyway.
const MAX_UNSETTLED_POLLS: u32 = 3;

/// What identifies a state of a file, also if a symbolic link was replaced: device, inode, size,
/// and the times of its content and of its inode.
type Mark = (u64, u64, u64, (i64, i64), (i64, i64));

/// One for each file; `None` if its metadata cannot be read.
type Stamp = Vec<Option<Mark>>;

/// Files that are read together.
pub(crate) struct Changes {
    files: Vec<PathBuf>,
    polls: Polls,
}

impl Changes {
    /// Records the state of these files. Call it before reading them, so that a change in between
    /// is detected.
    pub fn of(files: Vec<PathBuf>) -> Self {
        let stamp = stamp(&files);
        Self { files, polls: Polls { tried: stamp.clone(), seen: stamp, unsettled: 0 } }
    }

    /// Polls the files. True if they changed since they were last read and have settled: copying
    /// several files takes a while.
    pub fn should_reload(&mut self) -> bool {
        let stamp = stamp(&self.files);
        self.polls.should_reload(stamp)
    }

    /// Records the current state before the files are read unconditionally.
    pub fn note_reload(&mut self) {
        self.polls.tried = stamp(&self.files);
    }
}

fn stamp(files: &[PathBuf]) -> Stamp {
    let mark = |file: &PathBuf| {
        // Follows links, so this is the file that would be read.
        let found = fs::metadata(file).ok()?;
        let times = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        Some((found.dev(), found.ino(), found.size(), times.0, times.1))
    };
    files.iter().map(mark).collect()
}

struct Polls {
    /// The state when the files were last read, successfully or not.
    tried: Stamp,
    /// The state at the last poll.
    seen: Stamp,
    /// Polls in a row that all differed.
    unsettled: u32,
}

impl Polls {
    fn should_reload(&mut self, stamp: Stamp) -> bool {
        if stamp == self.tried {
            self.unsettled = 0;
            self.seen = stamp;
            return false;
        }
        if stamp != self.seen && self.unsettled < MAX_UNSETTLED_POLLS {
            self.unsettled += 1;
            self.seen = stamp;
            return false;
        }
        self.unsettled = 0;
        self.seen = stamp.clone();
        self.tried = stamp;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: u64) -> Stamp {
        vec![Some((1, 1, size, (0, 0), (0, 0))), None]
    }

    #[test]
    fn files_are_read_once_per_change_and_when_they_have_settled() {
        let mut polls = Polls { tried: of(1), seen: of(1), unsettled: 0 };
        let mut read = |size| polls.should_reload(of(size));
        assert_eq!(
            [1, 1, 2, 3, 3, 3, 3].map(&mut read),
            [false, false, false, false, true, false, false]
        );
        // Reads after a while even if they never settle.
        assert_eq!([4, 5, 6, 7, 8].map(&mut read), [false, false, false, true, false]);
    }
}
