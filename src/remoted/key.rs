//! A key of a broker: a secret that is sent in a header and never shown.
//!
//! In scope: what a key may contain, reading one from a file. Not in scope: which keys a broker
//! accepts.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::fs::read_secret;

/// The longest key, in bytes. The original's have 64.
pub(super) const MAX_KEY: usize = 1024;

/// A key as sent in `X-Remoted-APIKey`. It is zeroed on drop, and `Debug` shows `Key(..)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<String>);

impl Key {
    /// Reads the key from a file of one line. The second value is true if other users of the
    /// machine can read the file, which deserves a warning. Errors name the file and show none of
    /// its contents.
    pub fn from_file(file: &Path) -> Result<(Self, bool), String> {
        let fail = |why: String| format!("the key file {}: {why}", file.display());
        let (line, metadata) =
            read_secret(file, MAX_KEY).map_err(|error| fail(error.to_string()))?;
        let is_open = metadata.permissions().mode() & 0o077 != 0;
        let line = std::str::from_utf8(&line).map_err(|_| fail(KeyError.to_string()))?;
        let key = line.parse().map_err(|error: KeyError| fail(error.to_string()))?;
        Ok((key, is_open))
    }

    /// The key itself, for the header.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why a text cannot be a key. Shows nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 1 to {MAX_KEY} printable ASCII characters without spaces, on one line")]
pub struct KeyError;

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let can_be_sent = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > MAX_KEY || !can_be_sent {
            return Err(KeyError);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn a_key_is_read_from_a_file_of_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        for (text, mode, is_open) in [("abc", 0o600, false), ("abc\n", 0o640, true)] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let (key, seen_open) = Key::from_file(&file).unwrap();
            assert_eq!((key.reveal(), seen_open), ("abc", is_open));
        }
        let longest = "k".repeat(MAX_KEY);
        fs::write(&file, format!("{longest}\r\n")).unwrap();
        assert_eq!(Key::from_file(&file).unwrap().0.reveal(), longest);
        for text in ["", "\n", "a b", "SECRET\nSECRET", "SECRET\u{e9}", &"S".repeat(5000)] {
            fs::write(&file, text).unwrap();
            let error = Key::from_file(&file).unwrap_err();
            assert!(error.contains("/key: ") && !error.contains("SECRET"), "{error}");
        }
        let missing = Key::from_file(&dir.path().join("none")).unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", "SECRET".parse::<Key>()), "Ok(Key(..))");
        assert!("a\r\nb".parse::<Key>().is_err());
    }
}
