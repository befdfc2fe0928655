//! A CA that was made before, here or elsewhere, and can sign.
//!
//! In scope: reading it and saying why it cannot sign. Not in scope: what it signs.

use std::path::Path;

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use super::{CA_CRT, CA_KEY, moment};
use crate::identity::error::{Fault, IdentityError};
use crate::identity::{certificate, pem};

/// A CA's key and what must be known of its certificate.
pub(super) struct Authority {
    /// The whole file of certificates.
    pub pem: Vec<u8>,
    pub issuer: Issuer<'static, KeyPair>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// DER.
    subject: Vec<u8>,
}

impl Authority {
    /// Reads the CA in `dir`, which must be able to sign as of `now`. Of several certificates in
    /// its file the first is the one that signs.
    pub fn load(dir: &Path, now: UnixTime) -> Result<Self, IdentityError> {
        let (key_file, crt_file) = (dir.join(CA_KEY), dir.join(CA_CRT));
        let at_key = |fault| IdentityError::new(&key_file, fault);
        let at_crt = |fault| IdentityError::new(&crt_file, fault);
        if !crt_file.exists() {
            return Err(at_crt(Fault::NoCaHere));
        }
        let pem = pem::read_file(&crt_file)?;
        let certificates = pem::certificates(&pem, &crt_file)?;
        let der = certificates.first().ok_or_else(|| at_crt(Fault::NoCaHere))?;
        let key = pem::private_key(&pem::read_file(&key_file)?, &key_file)?;
        let key = KeyPair::try_from(&key).map_err(|_| at_key(Fault::UnusableKey))?;

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
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(at_key(Fault::KeyMismatch(crt_file.clone())));
        }
        let subject = parsed.subject().as_raw().to_owned();
        let issuer = Issuer::from_ca_cert_der(der, key)
            .map_err(|e| at_crt(Fault::Malformed(e.to_string())))?;
        Ok(Self { pem, issuer, not_before, not_after, subject })
    }

    /// Whether what was signed names this CA byte for byte, as peers compare it.
    pub fn check_issuer_of(&self, signed: &CertificateDer<'_>) -> Result<(), Fault> {
        match certificate::parse(signed)?.issuer().as_raw() == self.subject {
            true => Ok(()),
            false => Err(unrepeatable()),
        }
    }
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
