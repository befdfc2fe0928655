//! A CA that was made before, here or elsewhere, and can sign.
//!
//! In scope: reading it and saying why it cannot sign; whether it has signed something. Not in
//! scope: what it signs.

use std::path::Path;

use rcgen::{Issuer, KeyIdMethod};
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::key::CaKey;
use super::passphrase::Passphrase;
use super::{CA_CRT, CA_KEY, moment};
use crate::identity::error::{Fault, IdentityError};
use crate::identity::{certificate, pem, tls};

/// A CA's key and what must be known of its certificate.
pub(super) struct Authority {
    /// All certificates in its file, its own first.
    pub certificates: Vec<CertificateDer<'static>>,
    pub issuer: Issuer<'static, CaKey>,
    /// How what it signs names its key: as its own certificate does.
    pub key_id: KeyIdMethod,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// DER.
    subject: Vec<u8>,
}

impl Authority {
    /// Reads the CA in `dir`, which must be able to sign as of `now`. Of several certificates in
    /// its file the first is the one that signs. `ask` gives the passphrase of an encrypted key.
    pub fn load(
        dir: &Path,
        ask: &dyn Fn(&Path) -> Result<Passphrase, IdentityError>,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        let (key_file, crt_file) = (dir.join(CA_KEY), dir.join(CA_CRT));
        let at_key = |fault| IdentityError::new(&key_file, fault);
        let at_crt = |fault| IdentityError::new(&crt_file, fault);
        let certificates = certificates(dir)?;
        let der = certificates.first().ok_or_else(|| at_crt(Fault::NoCaHere))?;

        let parsed = certificate::parse(der).map_err(at_crt)?;
        certificate::check_make(&parsed).map_err(at_crt)?;
        if !parsed.is_ca() {
            return Err(at_crt(Fault::NotCa(certificate::subject(&parsed))));
        }
        if !can_be_repeated(&parsed) {
            return Err(at_crt(unrepeatable()));
        }
        let not_before = parsed.validity().not_before.to_datetime();
        let not_after = parsed.validity().not_after.to_datetime();
        if not_after <= moment(now) {
            return Err(at_crt(Fault::Expired(not_after.into())));
        }
        // Last, since it may ask somebody.
        let key = CaKey::read(&key_file, ask)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key() {
            return Err(at_key(Fault::KeyMismatch(crt_file.clone())));
        }
        let subject = parsed.subject().as_raw().to_owned();
        let key_id =
            parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_owned()),
                _ => None,
            });
        let key_id = key_id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified);
        let issuer = Issuer::from_ca_cert_der(der, key)
            .map_err(|e| at_crt(Fault::Malformed(e.to_string())))?;
        Ok(Self { certificates, issuer, key_id, not_before, not_after, subject })
    }

    /// Whether what was signed names this CA byte for byte, as peers compare it.
    pub fn check_issuer_of(&self, signed: &CertificateDer<'_>) -> Result<(), Fault> {
        match certificate::parse(signed)?.issuer().as_raw() == self.subject {
            true => Ok(()),
            false => Err(unrepeatable()),
        }
    }
}

/// The certificates of the CA in `dir`, at least one.
pub(super) fn certificates(dir: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let file = dir.join(CA_CRT);
    if !file.exists() {
        return Err(IdentityError::new(&file, Fault::NoCaHere));
    }
    pem::certificates(&pem::read_guarded(&file)?, &file)
}

/// Whether one of `authorities` has this name, DER, and signed this message, by any algorithm that
/// is in use with TLS 1.3.
pub(super) fn is_signed_by_one(
    authorities: &[CertificateDer<'_>],
    issuer: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let algorithms = tls::provider().signature_verification_algorithms.all;
    authorities.iter().any(|authority| {
        let Ok(parsed) = certificate::parse(authority) else { return false };
        if parsed.subject().as_raw() != issuer || !parsed.is_ca() {
            return false;
        }
        let Ok(key) = EndEntityCert::try_from(authority) else { return false };
        algorithms.iter().any(|one| key.verify_signature(*one, message, signature).is_ok())
    })
}

/// Whether rcgen can write the subject again: it panics on an attribute's type that is no object
/// identifier (the first number is 0, 1 or 2, and below 0 and 1 the second is less than 40).
fn can_be_repeated(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().iter_attributes().all(|attribute| {
        let mut numbers = attribute.attr_type().iter().into_iter().flatten();
        matches!((numbers.next(), numbers.next()), (Some(0 | 1), Some(0..=39)) | (Some(2), Some(_)))
    })
}

fn unrepeatable() -> Fault {
    Fault::Refused("its subject has a form that cannot be repeated as an issuer".to_owned())
}
