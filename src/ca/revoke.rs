//! Taking certificates back, and telling what was issued.
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
    /// Every certificate that was issued for this name and has not ended: a renewed one has the
    /// same key as the one before.
    Name(Name),
    /// The certificate in this file alone.
    File(PathBuf),
}

/// A revocation list that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its file.
    pub list: PathBuf,
    /// What is new in it.
    pub added: Vec<IssuedCertificate>,
    /// What was asked for and was in it already.
    pub already: Vec<IssuedCertificate>,
    /// How many certificates it takes back.
    pub len: usize,
    /// When the next one should be signed.
    pub next_update: Option<Date>,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Whose it is.
    pub name: String,
    /// What it is for; none where it is for both roles or neither.
    pub role: Option<Role>,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 of its DER form, lower-case hex.
    pub fingerprint: String,
    /// When it ends.
    pub expires: Date,
    /// Whether it is revoked.
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
    /// Everything that was issued here, by name and then by age, and what is wrong with the copies
    /// that cannot be read.
    pub fn list(&self) -> Result<(Vec<IssuedCertificate>, Vec<CaError>), CaError> {
        let list = Crl::read(self.dir, &authority::certificates(self.dir)?)?.unwrap_or_default();
        let (records, damaged) = records::all(self.dir)?;
        Ok((records.iter().map(|record| IssuedCertificate::new(record, &list)).collect(), damaged))
    }

    /// Takes back what `target` says, and signs the list anew. Where all of it is revoked already,
    /// the list stays as it is.
    pub fn revoke(
        &self,
        target: &RevocationTarget,
        reason: Reason,
        now: UnixTime,
    ) -> Result<Revocation, CaError> {
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        // The first one's: the list is in its name, and what it takes back is only its own.
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

    /// Signs the list anew, to count for `days` days. Where there is none, an empty one is made.
    pub fn sign_list(&self, days: u32, now: UnixTime) -> Result<Revocation, CaError> {
        let authority = self.load(now)?;
        let _lock = Lock::take(self.dir)?;
        // The first one's: the list is in its name, and what it takes back is only its own.
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

    /// What was issued for `name` and has not ended. What has ended is of no use to anybody, and
    /// stays out of the list, unless it is all there is.
    fn issued_for(&self, name: &Name, list: &Crl, now: UnixTime) -> Result<Vec<Record>, CaError> {
        let text = name.to_string();
        let (mut records, damaged) = records::all(self.dir)?;
        // One of these could be what is looked for.
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
