//! The making of a CA.
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

/// For how long a CA lasts where nothing else is asked for, in days.
pub const DEFAULT_CA_DAYS: u32 = 3650;

/// A CA to make.
#[derive(Clone, Debug)]
pub struct NewCa {
    /// Its name. None: `RestPipe CA` with a random end, so that two CAs can be told apart.
    pub name: Option<CaName>,
    /// For how long, 1 to [`MAX_DAYS`](super::MAX_DAYS).
    pub days: u32,
    /// What its key is encrypted with, if at all.
    pub passphrase: Option<Passphrase>,
}

impl Default for NewCa {
    fn default() -> Self {
        Self { name: None, days: DEFAULT_CA_DAYS, passphrase: None }
    }
}

impl Ca<'_> {
    /// Makes a CA here. The directory is created (0700) where it is missing.
    pub fn init(&self, new: &NewCa, now: UnixTime) -> Result<IssuedIdentity, CaError> {
        let (key_file, crt_file) = (self.path(CA_KEY), self.path(CA_CRT));
        // Another CA's revocation list would make every node refuse to start.
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
        // It signs nodes, never another CA.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

        let key = CaKey::generate().map_err(|e| CaError::new(&key_file, e))?;
        let crt = params.self_signed(&key).map_err(failed)?;
        // A CA is no peer, but its certificate is read the same way.
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
