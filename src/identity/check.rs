//! Whether a key, a certificate and a CA file make an identity that peers accept.
//!
//! In scope: every check that can be made alone, before a peer is there, with a line for each. The
//! chain is judged by the same code that judges it in a peer's handshake. Not in scope: where the
//! bytes come from and go to.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage};

use super::certificate::{self, PeerCertificate};
use super::error::{Date, Fault, IdentityError};
use super::pem;
use crate::config::IdentityFiles;
use crate::handler::Role;

/// The bytes of an identity's three PEM files.
pub(super) struct Bytes {
    pub key: Vec<u8>,
    pub crt: Vec<u8>,
    pub ca: Vec<u8>,
}

impl Bytes {
    pub fn read(files: &IdentityFiles) -> Result<Self, IdentityError> {
        Ok(Self {
            key: pem::read_file(&files.key)?,
            crt: pem::read_file(&files.crt)?,
            ca: pem::read_file(&files.ca)?,
        })
    }
}

/// An identity that passed all checks.
pub(super) struct Checked {
    pub own: PeerCertificate,
    pub certified: Arc<CertifiedKey>,
    pub roots: Arc<RootCertStore>,
}

/// Checks for `role` at the moment `now`. `files` are the names for messages. What is wrong with
/// one file alone is said before what is wrong between two.
pub(super) fn check(
    bytes: &Bytes,
    files: &IdentityFiles,
    role: Role,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<Checked, IdentityError> {
    let key = pem::private_key(&bytes.key, &files.key)?;
    let chain = pem::certificates(&bytes.crt, &files.crt)?;
    let authorities = pem::certificates(&bytes.ca, &files.ca)?;

    let own = own_certificate(&chain, role).map_err(|e| IdentityError::new(&files.crt, e))?;
    let roots = roots(&authorities, now).map_err(|e| IdentityError::new(&files.ca, e))?;

    let certified = CertifiedKey::from_der(chain.clone(), key, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            IdentityError::new(&files.key, Fault::KeyMismatch(files.crt.clone()))
        }
        rustls::Error::InvalidCertificate(e) => {
            IdentityError::new(&files.crt, Fault::Malformed(format!("{e:?}")))
        }
        _ => IdentityError::new(&files.key, Fault::UnusableKey),
    })?;

    check_chain(&chain, &roots, &files.ca, role, now, provider)
        .map_err(|e| IdentityError::new(&files.crt, e))?;
    Ok(Checked { own, certified: Arc::new(certified), roots: Arc::new(roots) })
}

/// Reads the node's own certificate and looks at each certificate that it sends.
fn own_certificate(chain: &[CertificateDer<'_>], role: Role) -> Result<PeerCertificate, Fault> {
    for der in chain {
        certificate::check_make(&certificate::parse(der)?)?;
    }
    // `pem::certificates` gives at least one; the node's own comes first.
    let Some(leaf) = chain.first() else {
        return Err(Fault::Malformed("there is none".to_owned()));
    };
    let parsed = certificate::parse(leaf)?;
    if parsed.is_ca() {
        return Err(Fault::CaAsLeaf);
    }
    if role == Role::Server && !certificate::has_server_name(&parsed) {
        return Err(Fault::NoSubjectAltName);
    }
    PeerCertificate::read(leaf, role)
}

/// The CAs that peers are checked against.
///
/// What is in this store is believed without a further look, so a certificate that is no CA's may
/// not come in: its owner could then sign for everybody. A CA that ended is left out; one that
/// begins later is kept, for a node runs for months, but it cannot be the only one.
fn roots(authorities: &[CertificateDer<'static>], now: UnixTime) -> Result<RootCertStore, Fault> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut roots = RootCertStore::empty();
    let mut current = false;
    let mut outside = None;
    for der in authorities {
        let parsed = certificate::parse(der)?;
        certificate::check_make(&parsed)?;
        if !parsed.is_ca() {
            return Err(Fault::NotCa(certificate::subject(&parsed)));
        }
        let validity = parsed.validity();
        if validity.not_after.timestamp() < now {
            outside = Some(Fault::Expired(validity.not_after.to_datetime().into()));
            continue;
        }
        if validity.not_before.timestamp() > now {
            outside = Some(Fault::NotYetValid(validity.not_before.to_datetime().into()));
        } else {
            current = true;
        }
        roots.add(der.clone()).map_err(|e| Fault::Malformed(e.to_string()))?;
    }
    match outside {
        Some(fault) if !current => Err(fault),
        _ => Ok(roots),
    }
}

/// What a peer will check in the handshake.
fn check_chain(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    ca: &Path,
    role: Role,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Fault> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(Fault::Malformed("there is none".to_owned()));
    };
    let usage = match role {
        Role::Server => KeyUsage::server_auth(),
        Role::Client => KeyUsage::client_auth(),
    };
    let fault = |error| chain_fault(error, ca, role);
    EndEntityCert::try_from(leaf)
        .map_err(fault)?
        .verify_for_usage(
            provider.signature_verification_algorithms.all,
            &roots.roots,
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(fault)?;
    Ok(())
}

fn chain_fault(error: webpki::Error, ca: &Path, role: Role) -> Fault {
    use webpki::Error as E;
    match error {
        E::CertExpired { not_after, .. } => Fault::Expired(Date::from(not_after)),
        E::CertNotValidYet { not_before, .. } => Fault::NotYetValid(Date::from(not_before)),
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Fault::WrongUsage(role),
        // A CA of the same name with another key gives the second.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => Fault::NotSignedBy(ca.to_owned()),
        E::CaUsedAsEndEntity => Fault::CaAsLeaf,
        E::EndEntityUsedAsCa => {
            Fault::Refused("it is signed by a certificate that is not a CA's".to_owned())
        }
        E::UnsupportedCertVersion => Fault::OldVersion(1),
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Fault::Refused(
            "it is signed by an algorithm that is not in use with TLS 1.3".to_owned(),
        ),
        E::PathLenConstraintViolated => {
            Fault::Refused("there are more CAs in its chain than its CA allows".to_owned())
        }
        E::NameConstraintViolation => {
            Fault::Refused("its CA may not sign for these names".to_owned())
        }
        E::UnsupportedCriticalExtension => {
            Fault::Refused("it has a critical extension that is not known".to_owned())
        }
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::MalformedExtensions => {
            Fault::Malformed(error.to_string())
        }
        other => Fault::Refused(other.to_string()),
    }
}
