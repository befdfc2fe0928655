//! Whether a key, a certificate and a CA file make an identity that peers accept.
//!
//! In scope: every check that needs no peer, each with its error line. The chain is checked by the
//! same code as in a peer's handshake. Not in scope: where the bytes come from and go to.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;

use super::certificate::{self, PeerCertificate};
use super::error::{IdentityError, IdentityFault};
use super::pem;
use super::trust::TrustStore;
use crate::config::IdentityFiles;
use crate::event::peer::Role;

/// The bytes of an identity's three PEM files.
pub(crate) struct Bytes {
    pub key: Vec<u8>,
    pub crt: Vec<u8>,
    pub ca: Vec<u8>,
}

impl Bytes {
    pub fn read(files: &IdentityFiles) -> Result<Self, IdentityError> {
        Self::read_by(pem::read_file, files)
    }

    /// As [`Bytes::read`], for an installation: see [`pem::read_guarded`].
    pub fn read_guarded(files: &IdentityFiles) -> Result<Self, IdentityError> {
        Self::read_by(pem::read_guarded, files)
    }

    fn read_by(
        read: fn(&Path) -> Result<Vec<u8>, IdentityError>,
        files: &IdentityFiles,
    ) -> Result<Self, IdentityError> {
        Ok(Self { key: read(&files.key)?, crt: read(&files.crt)?, ca: read(&files.ca)? })
    }
}

/// An identity that passed all checks.
pub(crate) struct Checked {
    pub own: PeerCertificate,
    pub certified: Arc<CertifiedKey>,
    /// Without revocation lists.
    pub trust: TrustStore,
    /// All certificates of the CA file, also expired ones.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Checks for `role` as of `now`. `files` are the names for messages. Faults of one file are
/// reported before mismatches between two.
pub(crate) fn check(
    bytes: &Bytes,
    files: &IdentityFiles,
    role: Role,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<Checked, IdentityError> {
    let key = pem::private_key(&bytes.key, &files.key)?;
    let chain = pem::certificates(&bytes.crt, &files.crt)?;
    let authorities = pem::certificates(&bytes.ca, &files.ca)?;

    let own = own_certificate(&chain, role, now).map_err(|e| IdentityError::new(&files.crt, e))?;
    let roots = roots(&authorities, now).map_err(|e| IdentityError::new(&files.ca, e))?;

    let certified = CertifiedKey::from_der(chain.clone(), key, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            IdentityError::new(&files.key, IdentityFault::KeyMismatch(files.crt.clone()))
        }
        rustls::Error::InvalidCertificate(e) => {
            IdentityError::new(&files.crt, IdentityFault::Malformed(format!("{e:?}")))
        }
        _ => IdentityError::new(&files.key, IdentityFault::UnusableKey),
    })?;

    let trust = TrustStore {
        ca: files.ca.clone(),
        roots,
        lists: Vec::new(),
        algorithms: provider.signature_verification_algorithms,
    };
    // What a peer will check in the handshake.
    trust.judge(&chain, role, now).map_err(|e| IdentityError::new(&files.crt, e))?;
    Ok(Checked { own, certified: Arc::new(certified), trust, authorities })
}

/// Reads the node's own certificate and checks each certificate that it sends.
pub(crate) fn own_certificate(
    chain: &[CertificateDer<'_>],
    role: Role,
    now: UnixTime,
) -> Result<PeerCertificate, IdentityFault> {
    for der in chain {
        certificate::check_algorithms(&certificate::parse(der)?)?;
    }
    // `pem::certificates` gives at least one; the node's own comes first.
    let Some(leaf) = chain.first() else {
        return Err(IdentityFault::Malformed("there is none".to_owned()));
    };
    let parsed = certificate::parse(leaf)?;
    if parsed.is_ca() {
        return Err(IdentityFault::CaAsLeaf);
    }
    certificate::check_dates(&parsed, now)?;
    if role == Role::Server && !certificate::has_server_name(&parsed) {
        return Err(IdentityFault::NoSubjectAltName);
    }
    PeerCertificate::read(leaf, role)
}

/// The CAs that peers are checked against.
///
/// Everything in this store is trusted without further checks, so only CA certificates are
/// accepted: the owner of any other could then sign for everybody. An expired CA is left out; one
/// that is not valid yet is kept, since a node runs for months, but it cannot be the only one.
pub(crate) fn roots(
    authorities: &[CertificateDer<'static>],
    now: UnixTime,
) -> Result<RootCertStore, IdentityFault> {
    let mut roots = RootCertStore::empty();
    let mut current = false;
    let mut outside = None;
    for der in authorities {
        let parsed = certificate::parse(der)?;
        certificate::check_algorithms(&parsed)?;
        if !parsed.is_ca() {
            return Err(IdentityFault::NotCa(certificate::subject(&parsed)));
        }
        match certificate::check_dates(&parsed, now) {
            Ok(()) => current = true,
            Err(ended @ IdentityFault::Expired(_)) => {
                outside = Some(ended);
                continue;
            }
            Err(early) => outside = Some(early),
        }
        roots.add(der.clone()).map_err(|e| IdentityFault::Malformed(e.to_string()))?;
    }
    match outside {
        Some(fault) if !current => Err(fault),
        _ => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::provider::provider;
    use super::*;
    use crate::ca;

    const DAY: u64 = 86_400;
    /// 2026-11-20 07:07:56 UTC
    const MADE: u64 = 1_795_158_476;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// The files of a CA of twenty days and a server of ten in `dir`.
    fn identity(dir: &Path) -> IdentityFiles {
        ca::init(dir, 20, at(MADE)).unwrap();
        let name = "localhost".parse().unwrap();
        let order = ca::Order { name, role: Role::Server, alternatives: Vec::new(), days: 10 };
        let made = ca::issue(dir, &order, at(MADE)).unwrap();
        IdentityFiles { key: made.key, crt: made.crt, ca: dir.join("ca.crt.pem") }
    }

    fn line_at(files: &IdentityFiles, now: u64) -> Result<(), String> {
        let bytes = Bytes::read(files).unwrap();
        let checked = check(&bytes, files, Role::Server, at(now), &provider());
        checked.map(|_| ()).map_err(|e| e.fault.to_string())
    }

    #[test]
    fn a_certificate_counts_between_its_dates() {
        let dir = tempfile::tempdir().unwrap();
        let files = identity(dir.path());
        let early = "the certificate is not valid before 2026-11-20 06:07:56 UTC";
        let late = "the certificate expired on 2026-11-30 07:07:56 UTC";
        assert_eq!(line_at(&files, MADE - 3601), Err(early.to_owned()));
        assert_eq!(line_at(&files, MADE - 3600), Ok(()));
        assert_eq!(line_at(&files, MADE + 10 * DAY), Ok(()));
        assert_eq!(line_at(&files, MADE + 10 * DAY + 1), Err(late.to_owned()));
    }

    #[test]
    fn a_ca_that_ended_counts_no_more_and_does_not_hinder_another() {
        let (dir, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut files = identity(dir.path());
        ca::init(later.path(), 100, at(MADE + 15 * DAY)).unwrap();
        let old = std::fs::read(&files.ca).unwrap();
        let new = std::fs::read(later.path().join("ca.crt.pem")).unwrap();

        files.ca = dir.path().join("both.pem");
        std::fs::write(&files.ca, [old, new.clone()].concat()).unwrap();
        let roots = |now| {
            let bytes = std::fs::read(&files.ca).unwrap();
            let authorities = pem::certificates(&bytes, &files.ca).unwrap();
            roots(&authorities, at(now)).map(|roots| roots.len()).map_err(|e| e.to_string())
        };
        assert_eq!(roots(MADE), Ok(2), "the next CA is known before it begins");
        assert_eq!(roots(MADE + 16 * DAY), Ok(2));
        assert_eq!(roots(MADE + 21 * DAY), Ok(1));
        assert!(roots(MADE + 200 * DAY).unwrap_err().contains("expired"));
        assert_eq!(line_at(&files, MADE), Ok(()));

        std::fs::write(&files.ca, new).unwrap();
        assert!(line_at(&files, MADE).unwrap_err().contains("is not valid before"));
    }

    #[test]
    fn changed_files_are_an_error_or_fine_but_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let files = identity(dir.path());
        let provider = provider();
        let mut random = fastrand::Rng::with_seed(2);
        let mut refused = 0;
        for _ in 0..1000 {
            let mut bytes = Bytes::read(&files).unwrap();
            let one = match random.u8(0..3) {
                0 => &mut bytes.key,
                1 => &mut bytes.crt,
                _ => &mut bytes.ca,
            };
            // A letter for a letter, so that most of them are still PEM.
            let position = random.usize(0..one.len());
            one[position] = random.alphanumeric() as u8;
            if let Err(error) = check(&bytes, &files, Role::Server, at(MADE), &provider) {
                assert!(!error.to_string().chars().any(char::is_control), "{error}");
                refused += 1;
            }
        }
        assert!(refused > 500, "{refused}");
    }
}
