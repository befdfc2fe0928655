//! The CA in a directory, by which everything else is asked for.
//!
//! In scope: where its files are, and how its key is opened. Not in scope: what is done with them.

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

    /// The same CA, whose key is opened with the passphrase that `ask` gives. It is called with
    /// the key's file, and only where the key is needed and encrypted.
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
