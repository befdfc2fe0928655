//! What a CA has issued: a copy of each certificate, `issued/SERIAL.crt.pem`.
//!
//! In scope: writing and reading these copies. Not in scope: whether they are revoked; only the
//! revocation list says so.
//!
//! There is no index that could be truncated or disagree: listings come from the certificates. A
//! copy is written before the certificate itself, so every certificate can be revoked by name, and
//! two processes never write the same file.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use super::error::CaError;
use super::files::{NewFiles, make_directory, replace};
use super::layout::{CRT_SUFFIX, ISSUED};
use crate::event::peer::Role;
use crate::identity::certificate;
use crate::identity::date::Date;
use crate::identity::error::IdentityFault;
use crate::identity::pem;
use crate::identity::text::{clean, hex};

/// A certificate that was issued here, or is treated as if it were.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The common name, else the first alternative name. Control characters are escaped.
    pub name: String,
    /// `None` if its usages allow both or neither.
    pub role: Option<Role>,
    /// Big-endian, as in the certificate.
    pub serial: Vec<u8>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    pub der: CertificateDer<'static>,
}

impl Record {
    /// Reads the one certificate in a file.
    pub fn read(file: &Path) -> Result<Self, CaError> {
        let mut certificates = pem::certificates(&pem::read_guarded(file)?, file)?;
        let record = match (certificates.pop(), certificates.len()) {
            (Some(der), 0) => Self::of(der),
            (_, others) => Err(IdentityFault::WrongKind {
                expected: "one certificate alone",
                found: format!("{} certificates", others + 1),
            }),
        };
        record.map_err(|fault| CaError::new(file, fault))
    }

    fn of(der: CertificateDer<'static>) -> Result<Self, IdentityFault> {
        let parsed = certificate::parse(&der)?;
        Ok(Self {
            name: name(&parsed),
            role: role(&parsed),
            serial: parsed.raw_serial().to_owned(),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            public_key: parsed.public_key().raw.to_owned(),
            der: der.clone(),
        })
    }

    /// The serial number, lower-case hex.
    pub fn serial_text(&self) -> String {
        hex(&self.serial)
    }

    pub fn expires(&self) -> Date {
        self.not_after.into()
    }
}

/// Keeps a copy of a certificate before it is handed out.
pub(super) fn keep_copy(
    new: &mut NewFiles,
    dir: &Path,
    serial: &[u8],
    pem: &str,
) -> Result<(), CaError> {
    let directory = dir.join(ISSUED);
    make_directory(&directory)?;
    // Never a partial copy, even after a crash: an unreadable one would prevent revocation by name.
    // The file name is unique.
    let path = directory.join(format!("{}{CRT_SUFFIX}", hex(serial)));
    replace(&path, pem, 0o644)?;
    new.adopt(&path)
}

/// All certificates issued in `dir`, by name and then by age, and an error for each unreadable
/// file.
pub(super) fn all(dir: &Path) -> Result<(Vec<Record>, Vec<CaError>), CaError> {
    let directory = dir.join(ISSUED);
    let unreadable =
        |e: std::io::Error| CaError::new(&directory, IdentityFault::Unreadable(e.to_string()));
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((Vec::new(), Vec::new()));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path: PathBuf = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(CRT_SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    let mut records = Vec::new();
    let mut damaged = Vec::new();
    for file in &files {
        match Record::read(file) {
            Ok(record) => records.push(record),
            Err(error) => damaged.push(error),
        }
    }
    records.sort_by(|a, b| {
        (&a.name, a.not_before, a.not_after).cmp(&(&b.name, b.not_before, b.not_after))
    });
    Ok((records, damaged))
}

fn name(certificate: &X509Certificate<'_>) -> String {
    let common_name = certificate.subject().iter_common_name().next();
    let name = common_name.and_then(|name| name.as_str().ok());
    let shown: String = name.unwrap_or("-").chars().take(certificate::MAX_NAME).collect();
    clean(&shown)
}

fn role(certificate: &X509Certificate<'_>) -> Option<Role> {
    let usage = certificate.extended_key_usage().ok().flatten()?.value;
    match (usage.server_auth, usage.client_auth) {
        (true, false) => Some(Role::Server),
        (false, true) => Some(Role::Client),
        _ => None,
    }
}
