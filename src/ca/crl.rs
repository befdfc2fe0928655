//! The revocation list of a CA (RFC 5280 section 5).
//!
//! In scope: reading, adding to and signing the one list in a CA's directory. Not in scope: which
//! certificates to revoke (`revoke`).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rcgen::{CertificateRevocationListParams, RevocationReason, RevokedCertParams, SerialNumber};
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::authority::{Authority, is_signed_by_one};
use super::error::{CaError, CaFault};
use super::layout::{CA_CRT, CRL};
use crate::fs::is_missing;
use crate::identity::date::{Date, moment};
use crate::identity::pem;
use crate::identity::text::shown;

/// The default validity of a list, in days.
pub const DEFAULT_CRL_DAYS: u32 = 30;

/// The longest serial number and list number, in bytes (RFC 5280 sections 4.1.2.2 and 5.2.3).
const MAX_SERIAL_BYTES: usize = 20;

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(u8);

impl Reason {
    /// No reason is given.
    pub const UNSPECIFIED: Self = Self(0);

    /// Another certificate replaces it; the key remains good.
    pub const SUPERSEDED: Self = Self(4);

    /// All that can be given. The missing ones concern other CAs or can be undone.
    pub const NAMES: [&str; 6] = [
        "unspecified",
        "keyCompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        "privilegeWithdrawn",
    ];

    /// All that a list may contain, by number.
    const ALL: [&str; 11] = [
        "unspecified",
        "keyCompromise",
        "CACompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        "certificateHold",
        "",
        "removeFromCRL",
        "privilegeWithdrawn",
        "AACompromise",
    ];

    const fn to_rcgen(self) -> RevocationReason {
        match self.0 {
            1 => RevocationReason::KeyCompromise,
            2 => RevocationReason::CaCompromise,
            3 => RevocationReason::AffiliationChanged,
            4 => RevocationReason::Superseded,
            5 => RevocationReason::CessationOfOperation,
            6 => RevocationReason::CertificateHold,
            8 => RevocationReason::RemoveFromCrl,
            9 => RevocationReason::PrivilegeWithdrawn,
            10 => RevocationReason::AaCompromise,
            _ => RevocationReason::Unspecified,
        }
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::NAMES.iter().find(|name| name.eq_ignore_ascii_case(text));
        let number = known.and_then(|name| Self::ALL.iter().position(|other| other == name));
        let number = number.and_then(|number| u8::try_from(number).ok());
        number.map(Self).ok_or_else(|| format!("one of {} is needed", Self::NAMES.join(", ")))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.get(usize::from(self.0)).unwrap_or(&"unknown reason"))
    }
}

/// The revocation of a certificate. Displays as `revoked on DATE (REASON)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// When it was revoked.
    pub since: Date,
    /// The reason.
    pub reason: Reason,
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revoked on {}", self.since)?;
        match self.reason {
            Reason::UNSPECIFIED => Ok(()),
            reason => write!(f, " ({reason})"),
        }
    }
}

/// A list, as read or as about to be signed.
#[derive(Clone, Debug, Default)]
pub(super) struct Crl {
    /// Big-endian, without leading zeros.
    number: Vec<u8>,
    entries: Vec<Entry>,
    this_update: Option<OffsetDateTime>,
    next_update: Option<OffsetDateTime>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Big-endian, without leading zeros.
    serial: Vec<u8>,
    since: OffsetDateTime,
    reason: Reason,
    invalid_since: Option<OffsetDateTime>,
}

impl Crl {
    /// Reads the list in `dir`, if there is one. It must be signed by one of `authorities`.
    pub fn read(dir: &Path, authorities: &[CertificateDer<'_>]) -> Result<Option<Self>, CaError> {
        let file = dir.join(CRL);
        if is_missing(&file) {
            return Ok(None);
        }
        let lists = pem::revocation_lists(&pem::read_guarded(&file)?, &file)?;
        let [der] = &lists[..] else {
            let why = "holds several revocation lists; leave only one";
            return Err(CaError::new(&file, CaFault::other(why)));
        };
        let list = Self::parse(der, authorities, &dir.join(CA_CRT));
        list.map(Some).map_err(|fault| CaError::new(&file, fault))
    }

    fn parse(der: &[u8], authorities: &[CertificateDer<'_>], ca: &Path) -> Result<Self, CaFault> {
        let malformed =
            |why: &str| CaFault::other(format!("the revocation list cannot be read: {why}"));
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|e| malformed(&e.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("there are bytes after its end"));
        }
        let is_ours = is_signed_by_one(
            authorities,
            list.issuer().as_raw(),
            &list.signature_algorithm,
            list.tbs_cert_list.as_ref(),
            &list.signature_value,
        );
        if !is_ours {
            let ca = shown(ca);
            let why = format!("the revocation list is not signed by the CA in {ca}");
            return Err(CaFault::Other(why));
        }
        let number = list.crl_number().map(x509_parser::num_bigint::BigUint::to_bytes_be);
        let entries = list.iter_revoked_certificates().map(Entry::read);
        Ok(Self {
            number: stripped(&number.unwrap_or_default()).to_owned(),
            entries: entries
                .collect::<Option<_>>()
                .ok_or_else(|| malformed("a serial number is negative"))?,
            this_update: Some(list.last_update().to_datetime()),
            next_update: list.next_update().map(|time| time.to_datetime()),
        })
    }

    /// The revocation of the certificate with this serial number.
    pub fn find(&self, serial: &[u8]) -> Option<Revoked> {
        let entry = self.entries.iter().find(|entry| entry.serial == stripped(serial))?;
        Some(Revoked { since: entry.since.into(), reason: entry.reason })
    }

    /// Revokes the certificate with this serial number.
    pub fn add(&mut self, serial: &[u8], now: UnixTime, reason: Reason) {
        let serial = stripped(serial).to_owned();
        self.entries.push(Entry { serial, since: moment(now), reason, invalid_since: None });
    }

    /// The number of revoked certificates.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the CA expects to publish the next list.
    pub fn next_update(&self) -> Option<Date> {
        self.next_update.map(Date::from)
    }

    /// For how many days it is valid, if it says so.
    pub fn days(&self) -> Option<u32> {
        let span = self.next_update? - self.this_update?;
        u32::try_from(span.whole_days()).ok().filter(|days| *days > 0)
    }

    /// The list as PEM, signed again with the next number, valid for `days` days from `now`.
    pub fn sign(
        &mut self,
        authority: &Authority,
        days: u32,
        now: UnixTime,
    ) -> Result<String, CaFault> {
        let now = moment(now);
        increment(&mut self.number);
        if self.number.len() > MAX_SERIAL_BYTES {
            return Err(CaFault::unsigned("the number of the list has no successor"));
        }
        self.this_update = Some(now);
        let next_update = now.checked_add(time::Duration::days(days.into())).unwrap_or(now);
        self.next_update = Some(next_update);
        let revoked = |entry: &Entry| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&entry.serial),
            revocation_time: entry.since,
            reason_code: Some(entry.reason.to_rcgen()),
            invalidity_date: entry.invalid_since,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update,
            crl_number: SerialNumber::from_slice(&self.number),
            issuing_distribution_point: None,
            revoked_certs: self.entries.iter().map(revoked).collect(),
            key_identifier_method: authority.key_id.clone(),
        };
        let pem = params.signed_by(&authority.issuer).and_then(|list| list.pem());
        let pem = pem.map_err(CaFault::unsigned)?;
        if pem.len() as u64 > pem::MAX_BYTES {
            let why = format!("the list is larger than {} bytes", pem::MAX_BYTES);
            return Err(CaFault::Unsigned(why));
        }
        Ok(pem)
    }
}

impl Entry {
    /// `None` if the serial number is negative, which is not allowed and which rcgen cannot write.
    fn read(entry: &RevokedCertificate<'_>) -> Option<Self> {
        if entry.raw_serial().first().is_none_or(|first| *first >= 0x80) {
            return None;
        }
        Some(Self {
            serial: stripped(entry.raw_serial()).to_owned(),
            since: entry.revocation_date.to_datetime(),
            reason: Reason(entry.reason_code().map_or(0, |(_, code)| code.0)),
            invalid_since: entry.invalidity_date().map(|(_, date)| date.to_datetime()),
        })
    }
}

/// A big-endian number without leading zeros.
fn stripped(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

fn increment(number: &mut Vec<u8>) {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
    number.insert(0, 1);
}

#[cfg(test)]
mod tests {
    use super::super::resigned;
    use super::*;

    #[test]
    fn numbers_go_up() {
        let mut number = Vec::new();
        for expected in 1..=70_000_u32 {
            increment(&mut number);
            assert_eq!(number, stripped(&expected.to_be_bytes()));
        }
    }

    #[test]
    fn reasons_are_read_as_openssl_writes_them() {
        for name in Reason::NAMES {
            assert_eq!(name.parse::<Reason>().unwrap().to_string(), name);
        }
        assert_eq!("KEYCOMPROMISE".parse::<Reason>().unwrap(), Reason(1));
        for wrong in ["", "CACompromise", "certificateHold", "because"] {
            assert!(wrong.parse::<Reason>().unwrap_err().contains("superseded"), "{wrong}");
        }
        assert_eq!(Reason(77).to_string(), "unknown reason");
    }

    #[test]
    fn nodes_can_read_what_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let now = UnixTime::now();
        super::super::init(dir.path(), 20, now).unwrap();
        let authority = super::super::Ca::new(dir.path()).load(now).unwrap();
        let mut list = Crl::default();
        for serial in 0..3 {
            let pem = list.sign(&authority, 30, now).unwrap();
            let der = pem::revocation_lists(pem.as_bytes(), dir.path()).unwrap().remove(0);
            let read = webpki::OwnedCertRevocationList::from_der(&der).unwrap();
            let read = webpki::CertRevocationList::from(read);
            let found = |serial: u8| read.find_serial(&[0x40, serial]).unwrap().is_some();
            assert_eq!([found(0), found(1), found(2)], [serial > 0, serial > 1, false]);
            list.add(&[0x40, serial], now, Reason(serial));
        }
    }

    /// A correctly signed list may still be malformed if another program made it.
    #[test]
    fn odd_lists_are_an_error_or_can_be_signed_again() {
        let dir = tempfile::tempdir().unwrap();
        let now = UnixTime::now();
        super::super::init(dir.path(), 20, now).unwrap();
        let authority = super::super::Ca::new(dir.path()).load(now).unwrap();
        let mut list = Crl::default();
        for serial in 1..4 {
            list.add(&[serial, 7], now, Reason(serial));
        }
        let file = dir.path().join("f");
        let pem = list.sign(&authority, 30, now).unwrap();
        let der = pem::revocation_lists(pem.as_bytes(), &file).unwrap().remove(0);
        let (_, parsed) = CertificateRevocationList::from_der(&der).unwrap();
        let message = parsed.tbs_cert_list.as_ref();

        let mut random = fastrand::Rng::with_seed(8);
        let mut read = 0;
        for _ in 0..3000 {
            let changed = resigned(message, authority.issuer.key(), &mut random);
            let parse = || Crl::parse(&changed, &authority.certificates, &file);
            match parse() {
                Ok(mut list) => {
                    read += 1;
                    let again = list.sign(&authority, 30, now);
                    let again =
                        again.map(|pem| pem::revocation_lists(pem.as_bytes(), &file).unwrap());
                    if let Ok(again) = again {
                        Crl::parse(&again[0], &authority.certificates, &file).unwrap();
                    }
                }
                Err(fault) => assert!(!fault.to_string().chars().any(char::is_control), "{fault}"),
            }
            // The same with an invalid signature.
            let mut cut = changed.clone();
            cut.truncate(random.usize(..cut.len()));
            assert!(Crl::parse(&cut, &authority.certificates, &file).is_err());
        }
        assert!(read > 100, "{read}");
    }
}
