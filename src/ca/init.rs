//! Creating a CA.
//!
//! In scope: its key and its own certificate. Not in scope: what it signs later.

use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
use rustls::pki_types::UnixTime;

use super::directory::Ca;
use super::error::CaError;
use super::files::{Lock, NewFiles, make_directory, refuse_existing};
use super::issue::IssuedIdentity;
use super::key::CaKey;
use super::layout::{CA_CRT, CA_KEY, CRL};
use super::name::CaName;
use super::order::{params, random_serial};
use super::passphrase::Passphrase;
use crate::event::peer::Role;
use crate::identity::certificate::PeerCertificate;
use crate::identity::error::IdentityFault;
use crate::identity::text::hex;

/// The default validity of a CA, in days.
pub const DEFAULT_CA_DAYS: u32 = 3650;

/// A CA to create.
#[derive(Clone, Debug)]
pub struct NewCa {
    /// Its name. `None`: `RestPipe CA` with a random suffix, so that two CAs differ.
    pub name: Option<CaName>,
    /// Its validity in days, 1 to [`MAX_DAYS`](super::MAX_DAYS).
    pub days: u32,
    /// Encrypts its key, if set.
    pub passphrase: Option<Passphrase>,
}

impl Default for NewCa {
    fn default() -> Self {
        Self { name: None, days: DEFAULT_CA_DAYS, passphrase: None }
    }
}

impl Ca<'_> {
    /// Creates a CA here, and the directory (0700) if it is missing.
    pub fn init(&self, new: &NewCa, now: UnixTime) -> Result<IssuedIdentity, CaError> {
        let (key_file, crt_file) = (self.path(CA_KEY), self.path(CA_CRT));
        // With another CA's revocation list no node would start.
        let taken = [key_file.as_path(), &crt_file, &self.path(CRL)];
        refuse_existing(&taken)?;
        let failed =
            |e: rcgen::Error| CaError::new(&crt_file, IdentityFault::Refused(e.to_string()));

        let serial = random_serial().map_err(|e| CaError::new(&crt_file, e))?;
        let name = match &new.name {
            Some(name) => name.as_str().to_owned(),
            None => format!("RestPipe CA {}", hex(&serial[..4])),
        };
        let mut params = params(&name, &serial, new.days, now);
        // It signs certificates of nodes, never of another CA.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

        let key = CaKey::generate().map_err(|e| CaError::new(&key_file, e))?;
        let crt = params.self_signed(&key).map_err(failed)?;
        // A CA is not a peer, but its certificate is read the same way.
        let certificate = PeerCertificate::read(crt.der(), Role::Server)
            .map_err(|e| CaError::new(&crt_file, e))?;
        let key_pem =
            key.to_pem(new.passphrase.as_ref()).map_err(|e| CaError::new(&key_file, e))?;

        make_directory(self.dir)?;
        let _lock = Lock::take(self.dir)?;
        refuse_existing(&taken)?;
        let mut files = NewFiles::default();
        files.write(&key_file, &key_pem, 0o600)?;
        files.write(&crt_file, &crt.pem(), 0o644)?;
        files.keep();
        Ok(IssuedIdentity { key: key_file, crt: crt_file, certificate, cut_short: false })
    }
}
