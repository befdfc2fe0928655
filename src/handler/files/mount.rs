//! Where the file system of a path is mounted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount point of the file system that an absolute path without links is on.
pub(super) fn mount_point(path: &Path) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    longest(&mounts, path)
}

/// The fifth word of each line is a mount point (proc(5)); of two, the longer and later one counts.
fn longest(mounts: &str, path: &Path) -> Option<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    points.filter(|point| path.starts_with(point)).max_by_key(|point| point.components().count())
}

/// A blank and the like are written as `\\040`.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_point_counts() {
        let mounts = "22 1 0:1 / / rw - ext4 a rw\n23 22 0:2 / /srv/a\\040b ro - ext4 b rw\n\
                      24 22 0:3 / /srv rw - tmpfs c rw\n";
        for (path, expected) in [("/srv/a b/c", "/srv/a b"), ("/srv/a", "/srv"), ("/etc", "/")] {
            assert_eq!(longest(mounts, Path::new(path)), Some(expected.into()), "{path}");
        }
        assert_eq!(longest("", Path::new("/")), None);
        assert!(mount_point(Path::new("/proc")).is_some());
    }
}
