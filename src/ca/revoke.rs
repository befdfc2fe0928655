//! Revoking certificates, and listing what was issued.
//!
//! In scope: which certificates; the list's file. Not in scope: the list itself (`crl`).

use std::path::PathBuf;

use rustls::pki_types::UnixTime;

use super::authority::{self, Authority, check_issued};
use super::crl::{Crl, DEFAULT_CRL_DAYS, Reason, Revoked};
use super::directory::Ca;
use super::error::{CaError, CaFault};
use super::files::{Lock, replace};
use super::layout::{CA_CRT, CRL};
use super::name::Name;
use super::records::{self, Record};
use crate::event::peer::Role;
use crate::identity::certificate;
use crate::identity::date::{Date, moment};
use crate::identity::error::IdentityFault;

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// Every certificate issued for this name that has not expired: a renewed one has the same key.
    Name(Name),
    /// The certificate in this file alone.
    File(PathBuf),
}

/// A signed revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its file.
    pub list: PathBuf,
    /// The newly revoked certificates.
    pub added: Vec<IssuedCertificate>,
    /// The requested certificates that were already in it.
    pub already: Vec<IssuedCertificate>,
    /// The number of revoked certificates.
    pub len: usize,
    /// When the next list is due.
    pub next_update: Option<Date>,
}

/// An issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Its name.
    pub name: String,
    /// Its role; `None` if it is for both or neither.
    pub role: Option<Role>,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 of its DER form, lower-case hex.
    pub fingerprint: String,
    /// When it expires.
    pub expires: Date,
    /// Its revocation, if any.
    pub revoked: Option<Revoked>,
}

impl IssuedCertificate {
    fn new(record: &Record, list: &Crl) -> Self {
        Self {
            name: record.name.clone(),
            role: record.role,
            serial: record.serial_text(),
            fingerprint: certificate::fingerprint(&record.der),
            expires: record.expires(),
            revoked: list.find(&record.serial),
        }
    }
}

impl Ca<'_> {
    /// All certificates issued here, by name and then by age, and an error for each unreadable
    /// copy.
    pub fn list(&self) -> Result<(Vec<IssuedCertificate>, Vec<CaError>), CaError> {
        let list = Crl::read(self.dir, &authority::certificates(self.dir)?)?.unwrap_or_default();
        let (records, damaged) = records::all(self.dir)?;
        Ok((records.iter().map(|record| IssuedCertificate::new(record, &list)).collect(), damaged))
    }

    /// Revokes `target` and signs the list again. If all of it is revoked already, the list is
    /// unchanged.
    pub fn revoke(
        &self,
        target: &RevocationTarget,
        reason: Reason,
        now: UnixTime,
    ) -> Result<Revocation, CaError> {
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        // The list is in the first one's name and revokes only what that one issued.
        let own = &authority.certificates[..1];
        let mut list = Crl::read(self.dir, own)?.unwrap_or_default();
        let chosen = match target {
            RevocationTarget::Name(name) => self.issued_for(name, &list, now)?,
            RevocationTarget::File(file) => {
                let record = Record::read(file)?;
                let at = |fault| CaError::new(file, fault);
                let parsed =
                    certificate::parse(&record.der).map_err(|fault| CaError::new(file, fault))?;
                if parsed.is_ca() {
                    return Err(CaError::new(file, IdentityFault::CaAsLeaf));
                }
                check_issued(&parsed, own, &self.path(CA_CRT)).map_err(at)?;
                vec![record]
            }
        };
        let (already, new): (Vec<_>, Vec<_>) =
            chosen.iter().partition(|record| list.find(&record.serial).is_some());
        let already: Vec<_> =
            already.iter().map(|record| IssuedCertificate::new(record, &list)).collect();
        if new.is_empty() {
            return Ok(self.outcome(&list, Vec::new(), already));
        }
        for record in &new {
            list.add(&record.serial, now, reason);
        }
        let days = list.days().unwrap_or(DEFAULT_CRL_DAYS);
        self.write_list(&mut list, &authority, days, now)?;
        let added = new.iter().map(|record| IssuedCertificate::new(record, &list)).collect();
        Ok(self.outcome(&list, added, already))
    }

    /// Signs the list again, valid for `days` days. Creates an empty one if there is none.
    pub fn sign_list(&self, days: u32, now: UnixTime) -> Result<Revocation, CaError> {
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        // The list is in the first one's name and revokes only what that one issued.
        let own = &authority.certificates[..1];
        let mut list = Crl::read(self.dir, own)?.unwrap_or_default();
        self.write_list(&mut list, &authority, days, now)?;
        Ok(self.outcome(&list, Vec::new(), Vec::new()))
    }

    fn write_list(
        &self,
        list: &mut Crl,
        authority: &Authority,
        days: u32,
        now: UnixTime,
    ) -> Result<(), CaError> {
        let file = self.path(CRL);
        let pem = list.sign(authority, days, now).map_err(|fault| CaError::new(&file, fault))?;
        replace(&file, &pem, 0o644)
    }

    /// What was issued for `name` and has not expired. Expired certificates need no revocation and
    /// are left out unless there are no others.
    fn issued_for(&self, name: &Name, list: &Crl, now: UnixTime) -> Result<Vec<Record>, CaError> {
        let text = name.to_string();
        let (mut records, damaged) = records::all(self.dir)?;
        // A damaged copy could be the wanted certificate.
        if let Some(error) = damaged.into_iter().next() {
            return Err(error);
        }
        records.retain(|record| record.name == text);
        let has_ended = |record: &Record| record.not_after < moment(now);
        if !records.iter().all(has_ended) {
            records.retain(|record| !has_ended(record) || list.find(&record.serial).is_some());
        }
        if records.is_empty() {
            return Err(CaError::new(self.dir, CaFault::NeverIssued(name.clone())));
        }
        Ok(records)
    }

    fn outcome(
        &self,
        list: &Crl,
        added: Vec<IssuedCertificate>,
        already: Vec<IssuedCertificate>,
    ) -> Revocation {
        let (len, next_update) = (list.len(), list.next_update());
        Revocation { list: self.path(CRL), added, already, len, next_update }
    }
}
