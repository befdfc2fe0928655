//! The folder of scripts: finding the file for an event.
//!
//! In scope: names, and file metadata. Not in scope: running scripts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::program::{is_executable, is_world_writable};
use crate::sync::throttle::Throttles;

/// Maximum length of a file name in bytes, on all common file systems.
const MAX_NAME: usize = 255;

/// A folder of scripts.
pub(super) struct Scripts {
    dir: PathBuf,
    /// Limits log lines per file.
    warnings: Throttles,
}

impl Scripts {
    /// Opens and checks the folder. Fails with a one-line message.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let shown = dir.display().to_string();
        let shown = shown.escape_debug();
        if !dir.is_absolute() {
            return Err(format!("{shown} is not an absolute path"));
        }
        let metadata = fs::metadata(dir).map_err(|error| format!("{shown}: {error}"))?;
        if !metadata.is_dir() {
            return Err(format!("{shown} is not a directory"));
        }
        if is_world_writable(&metadata) {
            return Err(format!(
                "everybody may write to {shown}, and so decide what is run; take that away (chmod o-w)"
            ));
        }
        Ok(Self { dir: dir.to_owned(), warnings: Throttles::default() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Finds the script with this name: an executable regular file in the folder, or a symbolic
    /// link to one that is in the folder too. Logs a file that looks like a script but cannot be
    /// one.
    ///
    /// There is no protection against replacing the file between this check and its start: anyone
    /// who can write to the folder decides what runs anyway.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        if !is_safe(name) {
            return None;
        }
        let path = self.dir.join(name);
        let mut metadata = fs::symlink_metadata(&path).ok()?;
        if metadata.is_symlink() {
            if !self.holds(&path) {
                self.warn(name, "is a link that leaves the folder, or leads nowhere");
                return None;
            }
            metadata = fs::metadata(&path).ok()?;
        }
        let fault = if !metadata.is_file() {
            "is not a regular file"
        } else if !is_executable(&metadata) {
            "is not executable (chmod +x)"
        } else if is_world_writable(&metadata) {
            "may be written by everybody (chmod o-w)"
        } else {
            return Some(path);
        };
        self.warn(name, fault);
        None
    }

    /// Whether the file is directly in the folder after following all links.
    fn holds(&self, path: &Path) -> bool {
        match (fs::canonicalize(path), fs::canonicalize(&self.dir)) {
            (Ok(file), Ok(dir)) => file.parent() == Some(&dir),
            _ => false,
        }
    }

    fn warn(&self, name: &str, fault: &str) {
        if let Some(more) = self.warnings.allow(name) {
            log::warn!(
                "{}/{name} is not run: it {fault}{more}",
                self.dir.display().to_string().escape_debug()
            );
        }
    }
}

/// Whether the name is a single path component without characters special to any program.
fn is_safe(name: &str) -> bool {
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(is_safe)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn put(path: PathBuf, mode: u32) {
        fs::write(&path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_script_is_an_executable_file_in_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("scripts");
        fs::create_dir_all(dir.join("get_dir")).unwrap();
        put(dir.join("get_a"), 0o755);
        put(dir.join("get_own"), 0o700);
        put(dir.join("get_plain"), 0o644);
        put(dir.join("get_open"), 0o777);
        put(dir.join("get_dir/get_b"), 0o755);
        put(outer.path().join("out"), 0o755);
        symlink("get_a", dir.join("get_link")).unwrap();
        symlink("get_link", dir.join("get_link_to_link")).unwrap();
        symlink("../out", dir.join("get_out")).unwrap();
        symlink("get_dir/get_b", dir.join("get_deep")).unwrap();
        symlink("nothing", dir.join("get_nothing")).unwrap();
        symlink("get_loop", dir.join("get_loop")).unwrap();
        let scripts = Scripts::open(&dir).unwrap();
        for name in ["get_a", "get_own", "get_link", "get_link_to_link"] {
            assert_eq!(scripts.find(name), Some(dir.join(name)));
        }
        let long = "g".repeat(300);
        for name in [
            "",
            ".",
            "..",
            "get_b",
            "get_plain",
            "get_open",
            "get_dir",
            "get_out",
            "get_deep",
            "get_nothing",
            "get_loop",
            "../out",
            "get_dir/get_b",
            "./get_a",
            "get_a/",
            "get_a\0",
            "get_a\n",
            "get_ä",
            "-get",
            ".get",
            &long,
        ] {
            assert_eq!(scripts.find(name), None, "{name:?}");
        }
        // The folder itself may be a link whose target changes.
        symlink("scripts", outer.path().join("current")).unwrap();
        let current = Scripts::open(&outer.path().join("current")).unwrap();
        assert!(current.find("get_a").is_some() && current.find("get_link").is_some());
    }

    #[test]
    fn every_byte_in_a_name_is_safe_or_refused() {
        for byte in 0..=255_u8 {
            let name = format!("get_{}x", char::from(byte));
            let expected =
                matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.');
            assert_eq!(is_safe(&name), expected, "{name:?}");
        }
    }

    #[test]
    fn an_unusable_folder_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a\nfile");
        put(file.clone(), 0o644);
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        for (path, expected) in [
            (Path::new("relative/dir"), "relative/dir is not an absolute path"),
            (&dir.path().join("none"), "No such file or directory"),
            (&file, "a\\nfile is not a directory"),
            (&open, "everybody may write to"),
        ] {
            let error = Scripts::open(path).map(|_| ()).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
