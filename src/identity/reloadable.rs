//! The identity in use, and its replacement by a new set of files.
//!
//! In scope: checking the files as a set, the exchange. Not in scope: when to check, and live links
//! (`node`).

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::UnixTime;

use super::Identity;
use super::error::{IdentityError, IdentityFault};
use crate::config::{CrlFile, IdentityFiles};
use crate::event::peer::Role;
use crate::fs::changes::Changes;

/// Holds a node's identity.
pub struct ReloadableIdentity {
    files: IdentityFiles,
    crl: CrlFile,
    role: Role,
    /// Guards which identity is in use, and its number. Never held while files are read.
    current: Mutex<(u64, Arc<Identity>)>,
    /// Guards the state of the files. Held while they are read, so that only one thread does so.
    changes: Mutex<Changes>,
}

/// The result of reloading the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether this node now presents another certificate.
    pub new_certificate: bool,
}

impl ReloadableIdentity {
    /// Reads and checks the files as of `now`.
    pub fn load(
        files: IdentityFiles,
        crl: CrlFile,
        role: Role,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        // Taken first, so that the next poll detects a change during the read.
        let watched = [&files.key, &files.crt, &files.ca, &crl.path];
        let changes = Changes::of(watched.into_iter().cloned().collect());
        let identity = Identity::load_with_crl(&files, &crl, role, now)?;
        Ok(Self {
            files,
            crl,
            role,
            current: Mutex::new((0, Arc::new(identity))),
            changes: Mutex::new(changes),
        })
    }

    /// The identity in use.
    pub fn current(&self) -> Arc<Identity> {
        Arc::clone(&self.current.lock().1)
    }

    /// The identity in use and its number, which increases with each replacement.
    pub fn numbered(&self) -> (u64, Arc<Identity>) {
        let current = self.current.lock();
        (current.0, Arc::clone(&current.1))
    }

    /// Polls the files, and reads them if they changed since they were last read and have settled.
    /// `None`: nothing to do.
    pub fn look(&self, now: UnixTime) -> Option<Result<Reloaded, IdentityError>> {
        let mut changes = self.changes.lock();
        changes.should_reload().then(|| self.read(now))
    }

    /// Reads the files at once. On an error the old identity stays in use.
    pub fn reload(&self, now: UnixTime) -> Result<Reloaded, IdentityError> {
        let mut changes = self.changes.lock();
        changes.note_reload();
        self.read(now)
    }

    fn read(&self, now: UnixTime) -> Result<Reloaded, IdentityError> {
        let old = self.current();
        let identity = Identity::load_with_crl(&self.files, &self.crl, self.role, now)?;
        if let (Some(gone), None) = (old.crl(), identity.crl()) {
            let why = "is gone; what it revoked stays revoked until this node is started again";
            return Err(IdentityError::new(gone, IdentityFault::Other(why.to_owned())));
        }
        let new_certificate = !identity.has_same_certificates(&old);
        let mut current = self.current.lock();
        *current = (current.0 + 1, Arc::new(identity));
        Ok(Reloaded { new_certificate })
    }
}
