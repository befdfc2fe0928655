//! New certificates: with a key generated here, for a request, or as the renewal of an old one.
//!
//! In scope: the key, the names and the files. Not in scope: the content of a certificate
//! (`order`).

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData, SubjectPublicKeyInfo};
use rustls::pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::authority::{Authority, check_issued};
use super::crl::{Crl, Reason};
use super::directory::Ca;
use super::error::{CaError, CaFault};
use super::files::{Lock, NewFiles, make_directory, refuse_existing, replace};
use super::key::CaKey;
use super::layout::{CA_CRT, crt_file, csr_file, key_file};
use super::name::Name;
use super::order::{Certified, Order};
use super::records::{self, Record, keep_copy};
use super::request::{CertificateRequest, key_fingerprint};
use crate::event::peer::Role;
use crate::fs::is_missing;
use crate::identity::certificate::{self, PeerCertificate};
use crate::identity::text::clean;

/// A new key and certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedIdentity {
    /// The private key's file.
    pub key: PathBuf,
    /// The certificate's file.
    pub crt: PathBuf,
    /// What the certificate says.
    pub certificate: PeerCertificate,
    /// Whether it expires earlier than ordered because its CA does.
    pub cut_short: bool,
}

/// A new key and certificate request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedRequest {
    /// The private key's file.
    pub key: PathBuf,
    /// The request's file.
    pub csr: PathBuf,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hex.
    pub public_key: String,
}

/// A new certificate for a key that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCertificate {
    /// The certificate's file.
    pub crt: PathBuf,
    /// What the certificate says.
    pub certificate: PeerCertificate,
    /// Its role.
    pub role: Role,
    /// Whether it expires earlier than ordered because its CA does.
    pub cut_short: bool,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hex.
    pub public_key: String,
    /// What the request asks for but the certificate does not have, one line each.
    pub left_out: Vec<String>,
}

/// Creates a key and a certificate request in `dir`, `NAME.key.pem` and `NAME.csr.pem`. Needs no
/// CA; the key stays on this machine.
pub fn request(dir: &Path, name: &Name) -> Result<CreatedRequest, CaError> {
    let (key_file, csr_file) = (dir.join(key_file(name)), dir.join(csr_file(name)));
    refuse_existing(&[&key_file, &csr_file])?;
    let at_csr = |e: rcgen::Error| CaError::new(&csr_file, CaFault::unsigned(e));
    let at_key = |fault: CaFault| CaError::new(&key_file, fault);

    let key = CaKey::generate().map_err(at_key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.to_string());
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(at_csr)?;
    let public_key = key.subject_public_key_info();

    make_directory(dir)?;
    let mut new = NewFiles::default();
    new.write(&key_file, &key.to_pem(None).map_err(at_key)?, 0o600)?;
    new.write(&csr_file, &csr, 0o644)?;
    new.keep();
    Ok(CreatedRequest { key: key_file, csr: csr_file, public_key: key_fingerprint(&public_key) })
}

impl Ca<'_> {
    /// Issues an identity, `NAME.key.pem` and `NAME.crt.pem`, in the CA's directory. It is checked
    /// as a node would check it before it is written.
    pub fn issue(&self, order: &Order, now: UnixTime) -> Result<IssuedIdentity, CaError> {
        let (key_file, crt) =
            (self.path(&key_file(&order.name)), self.path(&crt_file(&order.name)));
        refuse_existing(&[&key_file, &crt])?;
        check_client_name(order).map_err(|fault| CaError::new(&crt, fault))?;
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        let at_key = |fault: CaFault| CaError::new(&key_file, fault);
        let key = CaKey::generate().map_err(at_key)?;
        let certified = self.certify(&authority, order, &key, &crt, now)?;

        let mut new = NewFiles::default();
        // The key first: fails at once if another process was faster.
        new.write(&key_file, &key.to_pem(None).map_err(at_key)?, 0o600)?;
        self.hand_out(new, &certified, &crt, Existing::Refuse)?;
        let Certified { certificate, cut_short, .. } = certified;
        Ok(IssuedIdentity { key: key_file, crt, certificate, cut_short })
    }

    /// Signs the request in `csr` as `order` says and writes `NAME.crt.pem` beside it. Role and
    /// names come from `order` alone.
    pub fn sign(
        &self,
        csr: &Path,
        order: &Order,
        now: UnixTime,
    ) -> Result<SignedCertificate, CaError> {
        let crt = csr.with_file_name(crt_file(&order.name));
        let request = CertificateRequest::read(csr)?;
        refuse_existing(&[&crt])?;
        check_client_name(order).map_err(|fault| CaError::new(&crt, fault))?;
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        let key = usable_key(&request.public_key).map_err(|e| CaError::new(csr, e))?;
        let signed = self.sign_key(&authority, order, &key, crt, Existing::Refuse, now)?;
        Ok(SignedCertificate { left_out: request.left_out(order), ..signed })
    }

    /// The name for the request in `csr` if the command gives none: the name that the request asks
    /// for, provided that the file's name or one of `alternatives` confirms it, since a request
    /// alone decides nothing. If it asks for none, the file's name.
    pub fn name_for(csr: &Path, alternatives: &[Name]) -> Result<Name, CaError> {
        let file_name = csr.file_name().map(|name| name.to_string_lossy().into_owned());
        let file_name = file_name.unwrap_or_default();
        let stem = [".csr.pem", ".req.pem", ".csr", ".req", ".pem"]
            .iter()
            .find_map(|end| file_name.strip_suffix(end));
        let stem: Option<Name> = stem.and_then(|stem| stem.parse().ok());
        let refused = |why: String| CaError::new(csr, CaFault::Other(why));
        let Some(asked) = CertificateRequest::read(csr)?.common_name else {
            return stem.ok_or_else(|| {
                refused(
                    "neither the request nor its file's name says whose it is; give the name with \
                     --name"
                        .to_owned(),
                )
            });
        };
        let confirmed = stem.iter().chain(alternatives).find(|name| name.to_string() == asked);
        confirmed.cloned().ok_or_else(|| {
            refused(format!(
                "the request asks for the name {:?}, which neither its file's name nor --san says \
                 too; give the name it shall have with --name",
                clean(&asked)
            ))
        })
    }

    /// Issues a new certificate with the names, the role and the key of an old one: the newest for
    /// the key in `NAME.crt.pem` in the CA's directory, else the newest issued for `name`. Replaces
    /// that file. No key is read or written. The old certificate remains valid until it expires.
    pub fn renew(
        &self,
        name: &Name,
        days: u32,
        now: UnixTime,
    ) -> Result<SignedCertificate, CaError> {
        let crt = self.path(&crt_file(name));
        let at = |fault: CaFault| CaError::new(&crt, fault);
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        let revoked = Crl::read(self.dir, &authority.certificates)?.unwrap_or_default();
        let (records, _) = records::all(self.dir)?;
        let place = in_place(&crt, &records)?;
        let old = newest(&records, name, place.as_ref(), &revoked).map_err(at)?;
        // A copy that was put there by hand is not renewed.
        let parsed = certificate::parse(&old.der).map_err(|fault| at(fault.into()))?;
        check_issued(&parsed, &authority.certificates, &self.path(CA_CRT)).map_err(at)?;

        let order = order_like(&parsed, old.role, name, days).map_err(|why| {
            at(CaFault::Other(format!("the certificate cannot be renewed: {why}")))
        })?;
        let key = usable_key(&old.public_key).map_err(at)?;
        self.sign_key(&authority, &order, &key, crt, Existing::Replace, now)
    }

    /// Writes a certificate for a key that is elsewhere to `crt`.
    fn sign_key(
        &self,
        authority: &Authority,
        order: &Order,
        key: &SubjectPublicKeyInfo,
        crt: PathBuf,
        existing: Existing,
        now: UnixTime,
    ) -> Result<SignedCertificate, CaError> {
        let certified = self.certify(authority, order, key, &crt, now)?;
        self.hand_out(NewFiles::default(), &certified, &crt, existing)?;
        let Certified { certificate, cut_short, .. } = certified;
        let public_key = key_fingerprint(&key.subject_public_key_info());
        let role = order.role;
        Ok(SignedCertificate { crt, certificate, role, cut_short, public_key, left_out: vec![] })
    }

    /// Writes a certificate to `crt`, its copy first, together with the `new` files: all of them,
    /// or none.
    fn hand_out(
        &self,
        mut new: NewFiles,
        certified: &Certified,
        crt: &Path,
        existing: Existing,
    ) -> Result<(), CaError> {
        keep_copy(&mut new, self.dir, &certified.serial, &certified.pem)?;
        match existing {
            Existing::Refuse => new.write(crt, &certified.pem, 0o644)?,
            Existing::Replace => replace(crt, &certified.pem, 0o644)?,
        }
        new.keep();
        Ok(())
    }
}

/// What to do with an existing certificate file.
enum Existing {
    /// Keep it and fail.
    Refuse,
    Replace,
}

/// The newest certificate for `name` that is not revoked and whose key was not lost with another
/// revoked one. If there is a certificate in `place`, only those with its key are considered.
fn newest<'a>(
    records: &'a [Record],
    name: &Name,
    place: Option<&Record>,
    list: &Crl,
) -> Result<&'a Record, CaFault> {
    let text = name.to_string();
    let is_own = |record: &&Record| {
        record.name == text && place.is_none_or(|place| place.public_key == record.public_key)
    };
    let mut own = records.iter().filter(is_own);
    let count = own.clone().count();
    if count == 0 {
        return Err(CaFault::NeverIssued(name.clone()));
    }
    let is_lost = |record: &&Record| {
        let revoked = list.find(&record.serial);
        revoked.is_some_and(|revoked| revoked.reason != Reason::SUPERSEDED)
    };
    let lost: Vec<_> = records.iter().filter(is_lost).map(|record| &record.public_key).collect();
    let is_good = |record: &&Record| {
        list.find(&record.serial).is_none() && !lost.contains(&&record.public_key)
    };
    own.clone().rfind(is_good).ok_or_else(|| {
        let is_unrevoked = |record: &&Record| list.find(&record.serial).is_none();
        let has_others = records.iter().filter(|record| record.name == text).count() > count;
        let what = match (own.rfind(is_unrevoked), has_others) {
            (Some(other), _) => format!(
                "a certificate with the same key is revoked, and with it the key, though {} for {name} \
                 is not and still counts (rp_ca revoke {name} revokes it too)",
                other.serial_text()
            ),
            (None, false) => format!("all certificates for {name} are revoked, and with them their key"),
            (None, true) => format!(
                "all certificates for {name} with the key of this one are revoked, and with them the key"
            ),
        };
        CaFault::Other(format!(
            "{what}; make a new identity under a new name, or move the old files away first"
        ))
    })
}

/// Refuses a client that could not be asked for: in a target, `server` is the server itself.
fn check_client_name(order: &Order) -> Result<(), CaFault> {
    const TAKEN: &str = "server";
    match (order.role, &order.name) {
        (Role::Client, Name::Dns(name)) if name.eq_ignore_ascii_case(TAKEN) => {
            Err(CaFault::Other(format!(
                "a client cannot have the name {name:?}, by which clients call their server; choose \
                 another"
            )))
        }
        _ => Ok(()),
    }
}

/// The certificate that the new one will replace. It must have been issued here, so that a copy
/// exists.
fn in_place(crt: &Path, records: &[Record]) -> Result<Option<Record>, CaError> {
    if is_missing(crt) {
        return Ok(None);
    }
    let there = Record::read(crt)?;
    if records.iter().any(|record| record.der == there.der) {
        return Ok(Some(there));
    }
    let why = "the certificate cannot be renewed: another one that was not issued here is in its \
               place";
    Err(CaError::new(crt, CaFault::other(why)))
}

/// An order with the names and role of an existing certificate.
fn order_like(
    certificate: &X509Certificate<'_>,
    role: Option<Role>,
    name: &Name,
    days: u32,
) -> Result<Order, &'static str> {
    const RARE: &str = "it has names that are not given here";
    let role = role.ok_or("it is not for one role alone")?;
    let names = certificate.subject_alternative_name().ok().flatten().ok_or(RARE)?;
    let mut alternatives = Vec::new();
    for other in &names.value.general_names {
        let other = match other {
            GeneralName::DNSName(dns) => dns.parse().ok(),
            GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
                .map(|v4| Name::Ip(v4.into()))
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|v6| Name::Ip(v6.into())))
                .ok(),
            _ => None,
        };
        alternatives.push(other.ok_or(RARE)?);
    }
    alternatives.retain(|other| other != name);
    Ok(Order { name: name.clone(), role, alternatives, days })
}

fn usable_key(public_key: &[u8]) -> Result<SubjectPublicKeyInfo, CaFault> {
    SubjectPublicKeyInfo::from_der(public_key)
        .map_err(|e| CaFault::RequestKey(format!("not usable ({e})")))
}
