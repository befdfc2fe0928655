//! An existing CA that can sign, created here or elsewhere.
//!
//! In scope: reading it, why it cannot sign, whether it signed something. Not in scope: what it
//! signs.

use std::path::Path;

use rcgen::{Issuer, KeyIdMethod};
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::asn1_rs::BitString;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::x509::AlgorithmIdentifier;

use super::error::{CaError, CaFault};
use super::key::CaKey;
use super::layout::{CA_CRT, CA_KEY};
use super::passphrase::Passphrase;
use crate::identity::date::moment;
use crate::identity::error::IdentityFault;
use crate::identity::signature::is_signed_by;
use crate::identity::{certificate, pem};

/// A CA's key and the parts of its certificate that signing needs.
pub(super) struct Authority {
    /// All certificates in its file, its own first.
    pub certificates: Vec<CertificateDer<'static>>,
    pub issuer: Issuer<'static, CaKey>,
    /// The key identifier for what it signs, the same as in its own certificate.
    pub key_id: KeyIdMethod,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// DER.
    subject: Vec<u8>,
}

impl Authority {
    /// Reads the CA in `dir`; fails if it cannot sign as of `now`. Of several certificates in its
    /// file the first one signs. `ask` returns the passphrase of an encrypted key.
    pub fn load(
        dir: &Path,
        ask: &dyn Fn(&Path) -> Result<Passphrase, CaError>,
        now: UnixTime,
    ) -> Result<Self, CaError> {
        let (key_file, crt_file) = (dir.join(CA_KEY), dir.join(CA_CRT));
        let at_crt = |fault| CaError::new(&crt_file, fault);
        let certificates = certificates(dir)?;
        let der = certificates.first().ok_or_else(|| no_ca(&crt_file))?;

        let parsed = certificate::parse(der).map_err(at_crt)?;
        certificate::check_algorithms(&parsed).map_err(at_crt)?;
        if !parsed.is_ca() {
            return Err(at_crt(IdentityFault::NotCa(certificate::subject(&parsed))));
        }
        if !can_be_repeated(&parsed) {
            return Err(CaError::new(&crt_file, unrepeatable()));
        }
        let not_before = parsed.validity().not_before.to_datetime();
        let not_after = parsed.validity().not_after.to_datetime();
        if not_after <= moment(now) {
            return Err(at_crt(IdentityFault::Expired(not_after.into())));
        }
        // Last, because it may prompt.
        let key = CaKey::read(&key_file, ask)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key() {
            return Err(CaError::new(&key_file, IdentityFault::KeyMismatch(crt_file.clone())));
        }
        let subject = parsed.subject().as_raw().to_owned();
        let key_id =
            parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_owned()),
                _ => None,
            });
        let key_id = key_id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified);
        let issuer = Issuer::from_ca_cert_der(der, key)
            .map_err(|e| at_crt(IdentityFault::Malformed(e.to_string())))?;
        Ok(Self { certificates, issuer, key_id, not_before, not_after, subject })
    }

    /// Checks that the issuer names this CA byte for byte, as peers compare it.
    pub fn check_issuer_of(&self, signed: &CertificateDer<'_>) -> Result<(), IdentityFault> {
        match certificate::parse(signed)?.issuer().as_raw() == self.subject {
            true => Ok(()),
            false => Err(unrepeatable()),
        }
    }
}

/// The certificates of the CA in `dir`, at least one.
pub(super) fn certificates(dir: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let file = dir.join(CA_CRT);
    if !file.exists() {
        return Err(no_ca(&file));
    }
    Ok(pem::certificates(&pem::read_guarded(&file)?, &file)?)
}

/// Whether one of `authorities` has this name, DER, and signed this message.
pub(super) fn is_signed_by_one(
    authorities: &[CertificateDer<'_>],
    issuer: &[u8],
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &BitString<'_>,
) -> bool {
    authorities.iter().any(|authority| {
        certificate::parse(authority).is_ok_and(|authority| {
            authority.subject().as_raw() == issuer
                && authority.is_ca()
                && is_signed_by(authority.public_key(), algorithm, message, signature)
        })
    })
}

/// Refuses a certificate that is not signed by one of `authorities`, read from the file `ca`.
pub(super) fn check_issued(
    certificate: &X509Certificate<'_>,
    authorities: &[CertificateDer<'_>],
    ca: &Path,
) -> Result<(), CaFault> {
    let is_ours = is_signed_by_one(
        authorities,
        certificate.issuer().as_raw(),
        &certificate.signature_algorithm,
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value,
    );
    if is_ours { Ok(()) } else { Err(CaFault::NotOurs(ca.to_owned())) }
}

/// Whether rcgen can write the subject again: it panics on an attribute type that is not a valid
/// object identifier (the first number is 0, 1 or 2, and below 0 and 1 the second is less than 40).
fn can_be_repeated(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().iter_attributes().all(|attribute| {
        let mut numbers = attribute.attr_type().iter().into_iter().flatten();
        matches!((numbers.next(), numbers.next()), (Some(0 | 1), Some(0..=39)) | (Some(2), Some(_)))
    })
}

fn no_ca(file: &Path) -> CaError {
    CaError::new(file, CaFault::other("there is no CA here; make one first (rp_ca init)"))
}

fn unrepeatable() -> IdentityFault {
    IdentityFault::Refused("its subject has a form that cannot be repeated as an issuer".to_owned())
}
