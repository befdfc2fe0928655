//! The passphrase of a CA's key.
//!
//! In scope: its source and its limits. Not in scope: decrypting the key (`key`).

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::error::{CaError, CaFault};
use crate::fs::read_secret;
use crate::identity::error::IdentityFault;
use crate::identity::text::shown;

/// The longest passphrase, in bytes.
pub const MAX_PASSPHRASE: usize = 1024;

/// A passphrase of 1 to [`MAX_PASSPHRASE`] bytes. Wiped from memory when dropped, and never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes `bytes` as they are.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, CaFault> {
        if bytes.is_empty() {
            Err(CaFault::other("the passphrase is empty"))
        } else if bytes.len() > MAX_PASSPHRASE {
            Err(CaFault::other("the passphrase is longer than 1024 bytes"))
        } else {
            Ok(Self(bytes))
        }
    }

    /// Reads a file of one line, without its line end. Also returns whether other users of the
    /// machine can read the file.
    pub fn from_file(file: &Path) -> Result<(Self, bool), CaError> {
        let unreadable =
            |e: std::io::Error| CaError::new(file, IdentityFault::Unreadable(e.to_string()));
        let refused = |fault: CaFault| CaError::new(file, fault);
        let (bytes, metadata) = read_secret(file, MAX_PASSPHRASE).map_err(unreadable)?;
        let is_open = metadata.is_file() && metadata.permissions().mode() & 0o044 != 0;
        if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            let why = "a passphrase file has one line of text; this has more";
            return Err(refused(CaFault::other(why)));
        }
        Ok((Self::new(bytes).map_err(refused)?, is_open))
    }

    /// Prompts on the terminal without echo. `key` is the key's file, for the prompt and for
    /// errors.
    pub fn from_terminal(key: &Path) -> Result<Self, CaError> {
        let refused = |fault: CaFault| CaError::new(key, fault);
        let question = format!("passphrase of {}: ", shown(key));
        let typed = rpassword::prompt_password(question).map_err(|error| {
            // Opening the terminal fails with ENXIO if the process has none.
            let is_missing = matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOENT));
            let why = if is_missing { "there is no terminal to ask on" } else { "asking failed" };
            refused(CaFault::NoPassphrase(format!("{why} ({error})")))
        })?;
        Self::new(Zeroizing::new(typed.into_bytes())).map_err(refused)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, content).unwrap();
        let passphrase = Passphrase::from_file(&file);
        passphrase.map(|(read, _)| read.as_bytes().to_vec()).map_err(|e| e.fault.to_string())
    }

    #[test]
    fn a_file_has_one_line_that_says_something() {
        for content in ["a b", "a b\n", "a b\r\n"] {
            assert_eq!(read(content.as_bytes()), Ok(b"a b".to_vec()));
        }
        assert_eq!(read(&[0xff, 0xfe]), Ok(vec![0xff, 0xfe]), "any bytes will do");
        for content in ["", "\n", "\r\n"] {
            assert_eq!(read(content.as_bytes()), Err("the passphrase is empty".to_owned()));
        }
        for content in ["a\nb\n", "a\n\n", "a\rb", "a\0b"] {
            assert!(read(content.as_bytes()).unwrap_err().contains("one line"), "{content:?}");
        }
        let longest = [b'a'; MAX_PASSPHRASE];
        assert_eq!(read(&[&longest[..], b"\r\n"].concat()), Ok(longest.to_vec()));
        assert!(read(&[&longest[..], b"a\r\n"].concat()).is_err());
        assert!(read(&[b'a'; 5000]).unwrap_err().contains("longer than"));
    }

    #[test]
    fn it_is_never_shown() {
        let passphrase = Passphrase::new(Zeroizing::new(b"secret".to_vec())).unwrap();
        assert_eq!(format!("{passphrase:?}"), "Passphrase(..)");
    }
}
