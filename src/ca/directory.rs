//! The CA in a directory, the entry point to all operations.
//!
//! In scope: the location of its files, and access to its key. Not in scope: the operations.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::UnixTime;

use super::authority::Authority;
use super::error::{CaError, CaFault};
use super::passphrase::Passphrase;

/// The CA in a directory.
///
/// ```
/// use restpipe::ca::{self, Ca, Order};
/// use restpipe::event::peer::Role;
/// use rustls::pki_types::UnixTime;
///
/// let dir = tempfile::tempdir()?;
/// let now = UnixTime::now();
/// ca::init(dir.path(), 3650, now)?;
/// let ca = Ca::new(dir.path());
/// let order = Order { name: "web1".parse()?, role: Role::Client, alternatives: vec![], days: 90 };
/// let made = ca.issue(&order, now)?;
/// assert_eq!(made.certificate.name, "web1");
/// assert_eq!(ca.verify(&made.crt, Some(Role::Client), now)?.certificate, made.certificate);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Ca<'a> {
    pub(super) dir: &'a Path,
    ask: &'a dyn Fn(&Path) -> Result<Passphrase, CaError>,
}

impl<'a> Ca<'a> {
    /// The CA in `dir`, which need not exist yet. An encrypted key is an error.
    pub const fn new(dir: &'a Path) -> Self {
        Self { dir, ask: &no_passphrase }
    }

    /// Decrypts the key with the passphrase that `ask` returns. `ask` gets the key's file and is
    /// called only if the key is needed and encrypted.
    pub const fn with_passphrase(
        self,
        ask: &'a dyn Fn(&Path) -> Result<Passphrase, CaError>,
    ) -> Self {
        Self { ask, ..self }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub(super) fn load(&self, now: UnixTime) -> Result<Authority, CaError> {
        Authority::load(self.dir, self.ask, now)
    }
}

impl fmt::Debug for Ca<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn no_passphrase(key: &Path) -> Result<Passphrase, CaError> {
    Err(CaError::new(key, CaFault::NoPassphrase("nobody can be asked".to_owned())))
}
