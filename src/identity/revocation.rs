//! Revocation lists: which certificates their CA has revoked.
//!
//! In scope: reading and checking a file of them. Not in scope: looking a certificate up (`trust`),
//! and making lists (`ca`).

use std::path::Path;

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{Cert, CertRevocationList, OwnedCertRevocationList, VerifiedPath};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate;
use super::date::Date;
use super::error::{IdentityError, IdentityFault};
use super::pem;
use super::signature::is_signed_by;
use super::text::{clean, shown};

/// One list, its signature checked.
#[derive(Debug)]
pub(crate) struct RevocationList {
    list: CertRevocationList<'static>,
    /// The public key of the CA that signed it: two CAs may have one name.
    signer: Vec<u8>,
    /// The CA, for messages.
    pub issuer: String,
    /// When its CA expects to publish the next one.
    pub next_update: Date,
    /// When it was issued.
    this_update: Date,
}

/// The lists in `bytes`, each signed by one of `issuers`. If one CA has several, the newest comes
/// first and is the one in effect. `file` and `ca` are named in errors: the lists' own file, and
/// that of the issuers.
pub(crate) fn read(
    bytes: &[u8],
    file: &Path,
    issuers: &[CertificateDer<'_>],
    ca: &Path,
) -> Result<Vec<RevocationList>, IdentityError> {
    let mut lists = Vec::new();
    for der in pem::revocation_lists(bytes, file)? {
        let list = check(&der, issuers, ca).map_err(|e| IdentityError::new(file, e))?;
        lists.push(list);
    }
    lists.sort_by_key(|list: &RevocationList| std::cmp::Reverse(list.this_update));
    Ok(lists)
}

fn check(
    der: &[u8],
    issuers: &[CertificateDer<'_>],
    ca: &Path,
) -> Result<RevocationList, IdentityFault> {
    let malformed =
        |why: String| IdentityFault::Other(format!("the revocation list cannot be read: {why}"));
    let list = OwnedCertRevocationList::from_der(der).map_err(|e| malformed(e.to_string()))?;
    let (rest, parsed) =
        CertificateRevocationList::from_der(der).map_err(|e| malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("there are bytes after its end".to_owned()));
    }
    let next_update =
        parsed.next_update().ok_or_else(|| malformed("it has no next update".to_owned()))?;

    let issuer = clean(&parsed.issuer().to_string().chars().take(MAX_ISSUER).collect::<String>());
    let mut known = false;
    let mut signer = None;
    for candidate in issuers {
        let Ok(certificate) = certificate::parse(candidate) else { continue };
        if certificate.subject().as_raw() == parsed.issuer().as_raw() {
            known = true;
            let has_signed = is_signed_by(
                certificate.public_key(),
                &parsed.signature_algorithm,
                parsed.tbs_cert_list.as_ref(),
                &parsed.signature_value,
            );
            if has_signed && !certificate::may_sign_lists(&certificate) {
                return Err(IdentityFault::Other(format!(
                    "the revocation list is signed by {issuer}, whose certificate does not allow \
                     that (key usage cRLSign)"
                )));
            }
            if has_signed {
                signer = Some(certificate.public_key().raw.to_owned());
            }
        }
    }
    match (known, signer) {
        (false, _) => Err(IdentityFault::Other(format!(
            "the revocation list is from {issuer}, which is not a CA in {}",
            shown(ca)
        ))),
        (true, None) => Err(IdentityFault::Other(format!(
            "the revocation list names {issuer} as its issuer, whose key has not signed it"
        ))),
        (true, Some(signer)) => Ok(RevocationList {
            list: list.into(),
            signer,
            issuer,
            next_update: next_update.to_datetime().into(),
            this_update: parsed.last_update().to_datetime().into(),
        }),
    }
}

/// How much of an issuer's name is shown, in characters.
const MAX_ISSUER: usize = 255;

/// Whether a CA of a verified path has revoked a certificate of it. A certificate whose CA has no
/// list passes, and an overdue list still applies: it is better than none.
pub(crate) fn check_path(
    lists: &[RevocationList],
    path: &VerifiedPath<'_>,
) -> Result<(), webpki::Error> {
    let leaf: &Cert<'_> = path.end_entity();
    let mut issued = leaf;
    for issuer in path.intermediate_certificates() {
        let key = issuer.subject_public_key_info();
        check_one(lists, issued, |signer| signer == key.as_ref())?;
        issued = issuer;
    }
    let key = &path.anchor().subject_public_key_info;
    check_one(lists, issued, |signer| is_key_of_anchor(signer, key))
}

fn check_one(
    lists: &[RevocationList],
    certificate: &Cert<'_>,
    is_issuer: impl Fn(&[u8]) -> bool,
) -> Result<(), webpki::Error> {
    let mut scopes = Vec::new();
    let own = lists
        .iter()
        .filter(|list| list.list.issuer() == certificate.issuer() && is_issuer(&list.signer));
    for RevocationList { list, .. } in own {
        let scope = list.issuing_distribution_point();
        // An older one of the same scope has no effect.
        if scopes.contains(&scope) {
            continue;
        }
        scopes.push(scope);
        if list.find_serial(certificate.serial())?.is_some() {
            return Err(webpki::Error::CertRevoked);
        }
    }
    Ok(())
}

/// Whether a trust anchor has this key: of its, only the content is kept, without tag and length.
fn is_key_of_anchor(key: &[u8], content: &[u8]) -> bool {
    /// Tag and length of a key: 2 to 4 bytes, as it is shorter than 64 KiB.
    const HEADER: std::ops::RangeInclusive<usize> = 2..=4;
    key.ends_with(content) && HEADER.contains(&(key.len() - content.len()))
}

impl RevocationList {
    /// Whether the next one is due within `ahead` seconds of `now`, or overdue.
    pub fn is_due(&self, ahead: u64, now: UnixTime) -> bool {
        self.next_update.to_unix().as_secs() <= now.as_secs().saturating_add(ahead)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
        IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    };
    use time::OffsetDateTime;

    use super::*;

    /// 2026-11-20 07:07:56 UTC
    const MADE: i64 = 1_795_158_476;
    const DAY: i64 = 86_400;

    struct Ca {
        certificate: Certificate,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Ca { certificate, issuer: Issuer::new(params, key) }
    }

    impl Ca {
        /// A list issued at this time, valid for ten days, that revokes this serial number.
        fn list(&self, made: i64, serial: u8) -> String {
            let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let revoked = RevokedCertParams {
                serial_number: SerialNumber::from(vec![serial]),
                revocation_time: at(made),
                reason_code: None,
                invalidity_date: None,
            };
            let params = CertificateRevocationListParams {
                this_update: at(made),
                next_update: at(made + 10 * DAY),
                crl_number: SerialNumber::from(vec![1]),
                issuing_distribution_point: None,
                revoked_certs: vec![revoked],
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.issuer).unwrap().pem().unwrap()
        }
    }

    fn read_list(text: &[u8], cas: &[&Ca]) -> Result<Vec<RevocationList>, String> {
        let cas: Vec<_> = cas.iter().map(|ca| ca.certificate.der().clone()).collect();
        let (file, ca) = (Path::new("list.pem"), Path::new("ca.pem"));
        read(text, file, &cas, ca).map_err(|e| e.to_string())
    }

    #[test]
    fn lists_of_several_cas_stand_in_one_file_and_the_newest_of_one_comes_first() {
        let (one, other) = (ca("one"), ca("other"));
        let text = [one.list(MADE, 1), other.list(MADE, 2), one.list(MADE + DAY, 3)].concat();
        let lists = read_list(text.as_bytes(), &[&one, &other]).unwrap();
        let knows = |at: usize, serial| lists[at].list.find_serial(&[serial]).unwrap().is_some();
        assert_eq!(lists.len(), 3);
        assert!(lists[0].issuer.contains("one") && knows(0, 3) && !knows(0, 1));
    }

    #[test]
    fn a_list_is_due_by_its_next_update() {
        let one = ca("one");
        let lists = read_list(one.list(MADE, 1).as_bytes(), &[&one]).unwrap();
        let due = |now: i64| {
            lists[0].is_due(7 * 86_400, UnixTime::since_unix_epoch(Duration::from_secs(now as u64)))
        };
        let end = MADE + 10 * DAY;
        assert_eq!([end - 7 * DAY - 1, end - 7 * DAY, end + DAY].map(due), [false, true, true]);
        assert_eq!(lists[0].next_update.to_string(), "2026-11-30 07:07:56 UTC");
    }

    #[test]
    fn what_no_ca_of_ours_has_signed_is_refused_with_the_reason() {
        let (one, other, namesake) = (ca("one"), ca("other"), ca("one"));
        let list = one.list(MADE, 1);
        let refused = |text: &str, cas: &[&Ca]| read_list(text.as_bytes(), cas).unwrap_err();
        let line = refused(&list, &[&other]);
        assert!(line.starts_with("list.pem: the revocation list is from "), "{line}");
        assert!(line.contains("CN=one, which is not a CA in ca.pem"), "{line}");
        let line = refused(&list, &[&namesake, &other]);
        assert!(line.contains("CN=one as its issuer, whose key has not signed it"), "{line}");
        assert!(
            refused(&[list.clone(), other.list(MADE, 1)].concat(), &[&one]).contains("CN=other")
        );

        let line = refused(&one.certificate.pem(), &[&one]);
        assert_eq!(line, "list.pem: holds a certificate where a revocation list is needed");
        assert!(refused("", &[&one]).contains("the file is empty"));
        assert!(refused(&list[..list.len() / 2], &[&one]).contains("has no end line"));
        let empty = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
        assert!(refused(empty, &[&one]).contains("the revocation list cannot be read"));
    }

    #[test]
    fn random_cut_and_changed_lists_are_an_error_or_fine_but_never_a_panic() {
        let one = ca("one");
        let text = one.list(MADE, 1);
        let der = pem::revocation_lists(text.as_bytes(), Path::new("f")).unwrap().remove(0);
        let issuers = [one.certificate.der().clone()];
        let look = |der: &[u8]| check(der, &issuers, Path::new("ca"));
        assert!(look(&der).is_ok());
        for end in 0..der.len() {
            assert!(look(&der[..end]).is_err(), "cut at {end}");
            assert!(look(&der[end + 1..]).is_err(), "begun after {end}");
        }
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..20_000 {
            let mut bytes = der.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Err(fault) = look(&bytes) {
                assert!(!fault.to_string().chars().any(char::is_control), "{fault}");
            }
            let noise: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            assert!(look(&noise).is_err());
            let mut bytes = text.clone().into_bytes();
            let at = random.usize(0..bytes.len());
            bytes[at] = random.u8(..);
            let _ = read_list(&bytes, &[&one]);
        }
    }
}
