//! New certificates: with a key made here, for a key made elsewhere, or for one that has one.
//!
//! In scope: whose key and which names, and the files. Not in scope: what stands in a certificate
//! (`order`).

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, SubjectPublicKeyInfo};
use rustls::pki_types::UnixTime;
use x509_parser::extensions::GeneralName;

use super::crl::{List, Reason};
use super::fault::CaFault;
use super::files::{Lock, NewFiles, make_directory, refuse_existing, replace};
use super::key::CaKey;
use super::name::Name;
use super::order::Order;
use super::records::{self, Record, keep_copy};
use super::request::{Request, key_fingerprint};
use super::{Ca, authority};
use crate::event::peer::Role;
use crate::identity::certificate::{self, PeerCertificate};
use crate::identity::error::{Fault, IdentityError};

/// A key and a certificate that were made.
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

/// A key and a request that were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The private key's file.
    pub key: PathBuf,
    /// The request's file.
    pub csr: PathBuf,
    /// SHA-256 of the public key with its kind, lower-case hex.
    pub public_key: String,
}

/// A certificate that was made for a key that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate's file.
    pub crt: PathBuf,
    /// What the certificate says.
    pub certificate: PeerCertificate,
    /// What it is for.
    pub role: Role,
    /// Whether it ends earlier than was asked for, because its CA does.
    pub cut_short: bool,
    /// SHA-256 of the public key with its kind, lower-case hex.
    pub public_key: String,
    /// What the request asks for and does not get, one line each.
    pub left_out: Vec<String>,
}

/// Makes a key and a certificate request in `dir`, `NAME.key.pem` and `NAME.csr.pem`, where the key
/// shall live. No CA is needed there.
pub fn request(dir: &Path, name: &Name) -> Result<Requested, IdentityError> {
    let key_file = dir.join(format!("{name}.key.pem"));
    let csr_file = dir.join(format!("{name}.csr.pem"));
    refuse_existing(&[&key_file, &csr_file])?;
    let at_csr = |e: rcgen::Error| {
        IdentityError::new(&csr_file, Fault::from(CaFault::Unsigned(e.to_string())))
    };
    let at_key = |fault| IdentityError::new(&key_file, fault);

    let key = CaKey::generate().map_err(at_key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.to_string());
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(at_csr)?;
    let public_key = rcgen::PublicKeyData::subject_public_key_info(&key);

    make_directory(dir)?;
    let mut new = NewFiles::default();
    new.write(&key_file, &key.to_pem(None).map_err(at_key)?, 0o600)?;
    new.write(&csr_file, &csr, 0o644)?;
    new.keep();
    Ok(Requested { key: key_file, csr: csr_file, public_key: key_fingerprint(&public_key) })
}

impl Ca<'_> {
    /// Makes an identity, `NAME.key.pem` and `NAME.crt.pem`, in the CA's directory. It passes the
    /// checks that a node makes before it is written.
    pub fn issue(&self, order: &Order, now: UnixTime) -> Result<Made, IdentityError> {
        let key_file = self.path(&format!("{}.key.pem", order.name));
        let crt_file = self.path(&format!("{}.crt.pem", order.name));
        refuse_existing(&[&key_file, &crt_file])?;
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        let at_key = |fault| IdentityError::new(&key_file, fault);
        let key = CaKey::generate().map_err(at_key)?;
        let made = self.certify(&authority, order, &key, &crt_file, now)?;

        let mut new = NewFiles::default();
        // The key first: it says at once that somebody else was faster.
        new.write(&key_file, &key.to_pem(None).map_err(at_key)?, 0o600)?;
        keep_copy(&mut new, self.dir, &made.serial, &made.pem)?;
        new.write(&crt_file, &made.pem, 0o644)?;
        new.keep();
        let (certificate, cut_short) = (made.certificate, made.cut_short);
        Ok(Made { key: key_file, crt: crt_file, certificate, cut_short })
    }

    /// Signs the request in `csr` for what `order` says, and puts `NAME.crt.pem` beside it. Role
    /// and names come from `order` alone.
    pub fn sign(&self, csr: &Path, order: &Order, now: UnixTime) -> Result<Signed, IdentityError> {
        let crt = csr.with_file_name(format!("{}.crt.pem", order.name));
        let request = Request::read(csr)?;
        refuse_existing(&[&crt])?;
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        let key = usable_key(&request.public_key).map_err(|e| IdentityError::new(csr, e))?;
        let made = self.certify(&authority, order, &key, &crt, now)?;

        let mut new = NewFiles::default();
        keep_copy(&mut new, self.dir, &made.serial, &made.pem)?;
        new.write(&crt, &made.pem, 0o644)?;
        new.keep();
        Ok(Signed {
            crt,
            certificate: made.certificate,
            role: order.role,
            cut_short: made.cut_short,
            public_key: key_fingerprint(&request.public_key),
            left_out: request.left_out(order),
        })
    }

    /// The name for the request in `csr`, where the command gives none: the one that the request
    /// asks for, if the file's name or one of `alternatives` says so too, since a request alone
    /// decides nothing. Where it asks for none, the file's name.
    pub fn name_for(csr: &Path, alternatives: &[Name]) -> Result<Name, IdentityError> {
        let file_name = csr.file_name().map(|name| name.to_string_lossy().into_owned());
        let file_name = file_name.unwrap_or_default();
        let stem = [".csr.pem", ".req.pem", ".csr", ".req", ".pem"]
            .iter()
            .find_map(|end| file_name.strip_suffix(end));
        let stem: Option<Name> = stem.and_then(|stem| stem.parse().ok());
        let refused = |fault| IdentityError::new(csr, Fault::from(fault));
        let Some(asked) = Request::read(csr)?.common_name else {
            return stem.ok_or_else(|| refused(CaFault::Nameless));
        };
        let confirmed = stem.iter().chain(alternatives).find(|name| name.to_string() == asked);
        confirmed.cloned().ok_or_else(|| refused(CaFault::Unconfirmed(asked)))
    }

    /// Makes a new certificate with the names, the role and the key of an old one: of the newest
    /// for the key in `NAME.crt.pem` in the CA's directory, else of the newest that was issued for
    /// `name`. The new one is put in that place. No key is read or written. The old certificate
    /// stays good until it ends.
    pub fn renew(&self, name: &Name, days: u32, now: UnixTime) -> Result<Signed, IdentityError> {
        let crt = self.path(&format!("{name}.crt.pem"));
        let at = |fault| IdentityError::new(&crt, fault);
        let refused = |fault| at(Fault::from(fault));
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        let revoked = List::read(self.dir, &authority.certificates)?.unwrap_or_default();
        let (records, _) = records::all(self.dir)?;
        let place = in_place(&crt, &records)?;
        let old = newest(&records, name, place.as_ref(), &revoked).map_err(refused)?;
        check_origin(old, &authority.certificates, &self.path(super::CA_CRT)).map_err(refused)?;

        let order = order_like(old, name, days).map_err(refused)?;
        let key = usable_key(&old.public_key).map_err(at)?;
        let made = self.certify(&authority, &order, &key, &crt, now)?;
        let mut new = NewFiles::default();
        keep_copy(&mut new, self.dir, &made.serial, &made.pem)?;
        replace(&crt, &made.pem, 0o644)?;
        new.keep();
        Ok(Signed {
            crt,
            certificate: made.certificate,
            role: order.role,
            cut_short: made.cut_short,
            public_key: key_fingerprint(&old.public_key),
            left_out: Vec::new(),
        })
    }
}

/// The newest certificate for `name` that is not revoked, nor its key with another one; of the one
/// in `place`, if there is one, the newest for its key.
fn newest<'a>(
    records: &'a [Record],
    name: &Name,
    place: Option<&Record>,
    list: &List,
) -> Result<&'a Record, CaFault> {
    let text = name.to_string();
    let is_own = |record: &&Record| {
        record.name == text && place.is_none_or(|place| place.public_key == record.public_key)
    };
    let mut own = records.iter().filter(is_own);
    if own.clone().next().is_none() {
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
    own.rfind(is_good).ok_or_else(|| CaFault::AllRevoked(name.clone()))
}

/// A copy that somebody put there is not renewed.
fn check_origin(
    record: &Record,
    authorities: &[rustls::pki_types::CertificateDer<'_>],
    ca: &Path,
) -> Result<(), CaFault> {
    let not_ours = || CaFault::NotOurs(ca.to_owned());
    let parsed = certificate::parse(&record.der).map_err(|_| not_ours())?;
    let (message, signature) = (parsed.tbs_certificate.as_ref(), &parsed.signature_value.data);
    let issuer = parsed.issuer().as_raw();
    match authority::is_signed_by_one(authorities, issuer, message, signature) {
        true => Ok(()),
        false => Err(not_ours()),
    }
}

/// What stands where the new certificate shall go. It must have been issued here, so that a copy
/// of it is kept.
fn in_place(crt: &Path, records: &[Record]) -> Result<Option<Record>, IdentityError> {
    if crt.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let there = Record::read(crt)?;
    if records.iter().any(|record| record.der == there.der) {
        return Ok(Some(there));
    }
    let fault = CaFault::NotRenewable("another one that was not issued here is in its place");
    Err(IdentityError::new(crt, Fault::from(fault)))
}

/// An order for what a certificate says already.
fn order_like(record: &Record, name: &Name, days: u32) -> Result<Order, CaFault> {
    let rare = || CaFault::NotRenewable("it has names that are not given here");
    let role = record.role.ok_or(CaFault::NotRenewable("it is not for one role alone"))?;
    let parsed = certificate::parse(&record.der).map_err(|_| rare())?;
    let names = parsed.subject_alternative_name().ok().flatten().ok_or_else(rare)?;
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
        alternatives.push(other.ok_or_else(rare)?);
    }
    alternatives.retain(|other| other != name);
    Ok(Order { name: name.clone(), role, alternatives, days })
}

fn usable_key(public_key: &[u8]) -> Result<SubjectPublicKeyInfo, Fault> {
    SubjectPublicKeyInfo::from_der(public_key)
        .map_err(|e| Fault::from(CaFault::RequestKey(format!("not usable ({e})"))))
}
