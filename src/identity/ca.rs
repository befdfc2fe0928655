//! A small CA: makes keys and certificates that nodes accept.
//!
//! In scope: a CA in one directory, and identities signed by it. Not in scope: command lines.
//!
//! The directory holds `ca.key.pem` and `ca.crt.pem`, and `NAME.key.pem` and `NAME.crt.pem` for
//! each identity. Keys are ECDSA P-256 in PKCS#8, mode 0600. Nothing is ever overwritten.

mod authority;
mod name;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

use authority::Authority;
pub use name::{MAX_NAME, Name, NameError};

use super::certificate::PeerCertificate;
use super::check::{self, Bytes};
use super::error::{Fault, IdentityError};
use super::tls;
use crate::config::IdentityFiles;
use crate::peer::Role;

/// For how long a CA lasts where nothing else is asked for, in days.
pub const DEFAULT_CA_DAYS: u32 = 3650;

/// For how long an identity lasts where nothing else is asked for, in days.
pub const DEFAULT_DAYS: u32 = 365;

/// The longest that anything lasts, in days: a hundred years.
pub const MAX_DAYS: u32 = 36_500;

/// How far before its making a certificate begins: a fresh one is used at once, also on a machine
/// whose clock is behind or in a time zone that was set wrong by an hour.
const BACKDATED: Duration = Duration::from_secs(3600);

const CA_KEY: &str = "ca.key.pem";
const CA_CRT: &str = "ca.crt.pem";

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The private key's file.
    pub key: PathBuf,
    /// The certificate's file.
    pub crt: PathBuf,
    /// What the certificate says.
    pub certificate: PeerCertificate,
    /// Whether it ends earlier than was asked for, because its CA does.
    pub cut_short: bool,
}

/// An identity to make.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose it is; also the name of its files.
    pub name: Name,
    /// What it is for.
    pub role: Role,
    /// Further names and addresses to be found under.
    pub alternatives: Vec<Name>,
    /// For how long, 1 to [`MAX_DAYS`]; the CA's end cuts it short.
    pub days: u32,
}

/// Makes a CA in `dir`, which is created (0700) where it is missing. It lasts `days` days, at most
/// [`MAX_DAYS`]. Its name gets a random end, so that two CAs can be told apart.
pub fn init(dir: &Path, days: u32, now: UnixTime) -> Result<Made, IdentityError> {
    let (key_file, crt_file) = (dir.join(CA_KEY), dir.join(CA_CRT));
    refuse_existing(&[&key_file, &crt_file])?;
    let failed = |e: rcgen::Error| IdentityError::new(&crt_file, Fault::Refused(e.to_string()));

    let serial = random_serial().map_err(|e| IdentityError::new(&crt_file, e))?;
    let tag: String = serial[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut params = params(&format!("RestPipe CA {tag}"), &serial, days, now);
    // It signs nodes, never another CA.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

    let key = KeyPair::generate().map_err(failed)?;
    let crt = params.self_signed(&key).map_err(failed)?;
    // A CA is no peer, but its certificate is read the same way.
    let certificate = PeerCertificate::read(crt.der(), Role::Server)
        .map_err(|e| IdentityError::new(&crt_file, e))?;

    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| IdentityError::new(dir, Fault::Unwritable(e.to_string())))?;
    write_pair(&key_file, &key.serialize_pem(), &crt_file, &crt.pem())?;
    Ok(Made { key: key_file, crt: crt_file, certificate, cut_short: false })
}

/// Makes an identity signed by the CA in `dir`, and puts it there too. It passes the checks that a
/// node makes before it is written.
pub fn issue(dir: &Path, order: &Order, now: UnixTime) -> Result<Made, IdentityError> {
    let files = IdentityFiles {
        key: dir.join(format!("{}.key.pem", order.name)),
        crt: dir.join(format!("{}.crt.pem", order.name)),
        ca: dir.join(CA_CRT),
    };
    refuse_existing(&[&files.key, &files.crt])?;
    let authority = Authority::load(dir, now)?;
    let failed = |e: rcgen::Error| IdentityError::new(&files.crt, Fault::Refused(e.to_string()));

    let serial = random_serial().map_err(|e| IdentityError::new(&files.crt, e))?;
    let mut params = params(&order.name.to_string(), &serial, order.days, now);
    params.not_before = params.not_before.max(authority.not_before);
    let cut_short = params.not_after > authority.not_after;
    params.not_after = params.not_after.min(authority.not_after);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match order.role {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    for name in std::iter::once(&order.name).chain(&order.alternatives) {
        let name = name.to_san().map_err(failed)?;
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }

    let key = KeyPair::generate().map_err(failed)?;
    let crt = params.signed_by(&key, &authority.issuer).map_err(failed)?;
    authority.check_issuer_of(crt.der()).map_err(|e| IdentityError::new(&files.ca, e))?;
    let (key_pem, crt_pem) = (key.serialize_pem(), crt.pem());
    let bytes = Bytes {
        key: key_pem.clone().into_bytes(),
        crt: crt_pem.clone().into_bytes(),
        ca: authority.pem,
    };
    let certificate = check::check(&bytes, &files, order.role, now, &tls::provider())?.own;

    write_pair(&files.key, &key_pem, &files.crt, &crt_pem)?;
    Ok(Made { key: files.key, crt: files.crt, certificate, cut_short })
}

/// What all certificates have: a name, a serial number, and dates.
fn params(common_name: &str, serial: &[u8], days: u32, now: UnixTime) -> CertificateParams {
    let now = moment(now);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = now.checked_sub(BACKDATED.try_into().unwrap_or_default()).unwrap_or(now);
    let days = time::Duration::days(days.clamp(1, MAX_DAYS).into());
    params.not_after = now.checked_add(days).unwrap_or(now);
    params
}

/// Sixteen random bytes: positive, and never shorter than that (RFC 5280 section 4.1.2.2 allows
/// twenty).
fn random_serial() -> Result<[u8; 16], Fault> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| Fault::Refused("the system gives no random numbers".to_owned()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn moment(time: UnixTime) -> OffsetDateTime {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(time::PrimitiveDateTime::MAX.assume_utc())
}

fn refuse_existing(files: &[&Path]) -> Result<(), IdentityError> {
    match files.iter().find(|file| fs::symlink_metadata(file).is_ok()) {
        Some(file) => Err(IdentityError::new(file, Fault::Exists)),
        None => Ok(()),
    }
}

/// Writes two new files or none.
fn write_pair(key_file: &Path, key: &str, crt_file: &Path, crt: &str) -> Result<(), IdentityError> {
    write_new(key_file, key, 0o600)?;
    write_new(crt_file, crt, 0o644).inspect_err(|_| {
        // A key without its certificate is of no use, and would be in the way of the next try.
        let _ = fs::remove_file(key_file);
    })
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let failed = |error: io::Error| {
        let fault = match error.kind() {
            io::ErrorKind::AlreadyExists => Fault::Exists,
            _ => Fault::Unwritable(error.to_string()),
        };
        IdentityError::new(path, fault)
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}
