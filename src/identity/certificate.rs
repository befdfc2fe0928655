//! What a certificate says: its owner, and whether its algorithms are supported.
//!
//! In scope: reading one certificate. Not in scope: whether it is trusted (`check`, and rustls for
//! a peer's).

use std::time::Duration;

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

use super::date::Date;
use super::error::IdentityFault;
use super::text::{clean, hex, is_invisible};
use crate::event::peer::Role;

/// The longest name of an owner, in characters.
pub const MAX_NAME: usize = 255;

/// The minimum size of an RSA key, in bits.
const MIN_RSA_BITS: usize = 2048;

/// Who a peer is, read from the certificate that the handshake has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its name: the first subject alternative DNS name, else the common name. 1 to 255 characters,
    /// none of them a control character, in their original case.
    pub name: String,
    /// SHA-256 of the DER form, lower-case hex.
    pub fingerprint: String,
    /// When it expires.
    pub expires: Date,
}

impl PeerCertificate {
    /// Reads the end-entity certificate of a verified peer that has `role`.
    ///
    /// A server with neither a DNS name nor a common name is named by its first IP address, under
    /// which it was found. A client is not: its name decides what it may ask.
    pub fn read(der: &CertificateDer<'_>, role: Role) -> Result<Self, IdentityFault> {
        let certificate = parse(der)?;
        let name = name(&certificate, role).map_err(|why| IdentityFault::Other(why.to_owned()))?;
        let expires = Date::from(certificate.validity().not_after.to_datetime());
        Ok(Self { name, fingerprint: fingerprint(der), expires })
    }
}

/// SHA-256 of a certificate's DER form, lower-case hex.
pub fn fingerprint(der: &CertificateDer<'_>) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}

/// Reads the DER form.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityFault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(IdentityFault::Malformed("there are bytes after its end".to_owned())),
        Err(error) => Err(IdentityFault::Malformed(error.to_string())),
    }
}

/// Refuses a version, a key and a signature that no TLS 1.3 peer would accept. The signature of a
/// CA's certificate on itself is ignored, as it is never verified.
pub(crate) fn check_algorithms(certificate: &X509Certificate<'_>) -> Result<(), IdentityFault> {
    match certificate.version() {
        X509Version::V3 => {}
        X509Version(older) => return Err(IdentityFault::OldVersion(older.saturating_add(1))),
    }
    let self_issued = certificate.issuer().as_raw() == certificate.subject().as_raw();
    if let (false, Some(hash)) = (self_issued && certificate.is_ca(), weak_hash(certificate)) {
        return Err(IdentityFault::Other(format!(
            "the certificate is signed with {hash}; SHA-256 or better is needed"
        )));
    }
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = bits(rsa.modulus);
            if bits >= MIN_RSA_BITS {
                return Ok(());
            }
            Err(IdentityFault::Other(format!(
                "the certificate has an RSA key of {bits} bits; at least {MIN_RSA_BITS} are needed"
            )))
        }
        // Kinds that this parser does not know are left to the checks of the chain and of the key.
        _ => Ok(()),
    }
}

/// Refuses a certificate outside its validity period.
pub(crate) fn check_dates(
    certificate: &X509Certificate<'_>,
    now: UnixTime,
) -> Result<(), IdentityFault> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if validity.not_after.timestamp() < now {
        Err(IdentityFault::Expired(validity.not_after.to_datetime().into()))
    } else if validity.not_before.timestamp() > now {
        Err(IdentityFault::NotYetValid(validity.not_before.to_datetime().into()))
    } else {
        Ok(())
    }
}

/// Whether a CA's key may sign revocation lists: without key usages, it may do anything.
pub(crate) fn may_sign_lists(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.key_usage().ok().flatten();
    usage.is_none_or(|usage| usage.value.crl_sign())
}

/// Whether a client can find a server by this certificate: it has a DNS name or an IP address.
pub(crate) fn has_server_name(certificate: &X509Certificate<'_>) -> bool {
    alternative_names(certificate)
        .any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
}

/// The first DNS names and IP addresses of a server, for messages.
pub(crate) fn server_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    const MOST: usize = 8;
    alternative_names(certificate)
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some(dns.chars().take(MAX_NAME).collect()),
            other => address(other),
        })
        .take(MOST)
        .collect()
}

/// When the first certificate of a chain expires.
pub(crate) fn earliest_end(chain: &[CertificateDer<'_>]) -> Option<UnixTime> {
    let ends = chain.iter().filter_map(|der| parse(der).ok()).map(|certificate| {
        u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0)
    });
    ends.min().map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// The subject as one line, for messages.
pub(crate) fn subject(certificate: &X509Certificate<'_>) -> String {
    // The peer chooses it, and formatting thousands of small parts takes long.
    const MOST: usize = 4096;
    let bytes = certificate.subject().as_raw().len();
    if bytes > MOST {
        return format!("a subject of {bytes} bytes");
    }
    let subject: String = certificate.subject().to_string().chars().take(MAX_NAME).collect();
    if subject.is_empty() { "an empty subject".to_owned() } else { clean(&subject) }
}

const NAME_MISSING: &str =
    "the certificate has no name: neither a subject alternative DNS name nor a common name";
const NAME_TOO_LONG: &str = "the name in the certificate is longer than 255 characters";
const NAME_HAS_INVISIBLE: &str =
    "the name in the certificate has characters that are invisible or reorder others";

fn name(certificate: &X509Certificate<'_>, role: Role) -> Result<String, &'static str> {
    let dns = alternative_names(certificate).find_map(|name| match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        _ => None,
    });
    let common_name = || {
        let common_name = certificate.subject().iter_common_name().next()?;
        Some(common_name.as_str().unwrap_or_default().to_owned())
    };
    let address = || match role {
        Role::Server => alternative_names(certificate).find_map(address),
        Role::Client => None,
    };
    let name = dns.or_else(common_name).or_else(address).ok_or(NAME_MISSING)?;
    check_name(&name)?;
    Ok(name)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        Err(NAME_MISSING)
    } else if name.chars().any(|c| is_invisible(c) || c.is_whitespace() && c != ' ') {
        Err(NAME_HAS_INVISIBLE)
    } else if name.chars().count() > MAX_NAME {
        Err(NAME_TOO_LONG)
    } else {
        Ok(())
    }
}

fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension.into_iter().flat_map(|extension| &extension.value.general_names)
}

/// The text of an IP address name: 4 or 16 bytes (RFC 5280 section 4.2.1.6).
fn address(name: &GeneralName<'_>) -> Option<String> {
    let GeneralName::IPAddress(bytes) = name else { return None };
    if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(*bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

/// The broken hash in the certificate's signature algorithm, if any (RFC 3279 section 2.2).
fn weak_hash(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" => Some("SHA-1"),
        "1.2.840.113549.1.1.4" => Some("MD5"),
        "1.2.840.113549.1.1.2" => Some("MD2"),
        _ => None,
    }
}

/// The length of a big-endian number, in bits.
fn bits(number: &[u8]) -> usize {
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: Option<&str>, names: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(common_name) = common_name {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.subject_alt_names = names.to_vec();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn client_name(common_name: Option<&str>, names: &[SanType]) -> Result<String, IdentityFault> {
        PeerCertificate::read(&certificate(common_name, names), Role::Client).map(|peer| peer.name)
    }

    #[test]
    fn a_peer_goes_by_its_first_dns_name_else_by_its_common_name() {
        let address = SanType::IpAddress([10, 0, 0, 5].into());
        let mail = SanType::Rfc822Name("a@example.com".try_into().unwrap());
        let names = [mail.clone(), address.clone(), dns("first"), dns("second")];
        assert_eq!(client_name(Some("common"), &names).unwrap(), "first");
        assert_eq!(client_name(Some("common"), &[mail, address.clone()]).unwrap(), "common");
        assert_eq!(client_name(Some("Zoë"), &[]).unwrap(), "Zoë");

        let only_address = certificate(None, &[address]);
        let missing = Err(IdentityFault::Other(NAME_MISSING.to_owned()));
        assert_eq!(PeerCertificate::read(&only_address, Role::Client), missing);
        let server = PeerCertificate::read(&only_address, Role::Server).unwrap();
        assert_eq!(server.name, "10.0.0.5");
    }

    #[test]
    fn a_subject_of_thousands_of_parts_is_not_written_out() {
        let shown = |length: usize| {
            let der = certificate(Some(&"x".repeat(length)), &[]);
            subject(&parse(&der).unwrap())
        };
        assert_eq!(shown(300), format!("CN={}", "x".repeat(MAX_NAME - 3)));
        let long = shown(5000);
        assert!(long.starts_with("a subject of 50") && long.len() < 30, "{long}");
    }

    #[test]
    fn names_that_would_lie_in_a_log_are_refused() {
        let fault = |name: &str| client_name(Some(name), &[]).unwrap_err();
        for name in [
            "a\nb",
            "a\0",
            "\u{1b}[2J",
            "a\u{85}",
            "a\u{202e}b",
            "a\u{2028}",
            "a\u{feff}",
            "a\u{ad}b",
            "a\u{e0062}",
            "a\u{e01ef}",
            "a\u{fe0f}",
            "a\u{34f}",
            "\u{61c}a",
            "\u{115f}",
            "a\u{3164}",
            "a\u{ffa0}",
            "a\u{180e}",
            "a\u{2800}",
            "a\u{a0}b",
            "a\u{3000}",
            "a\u{2009}b",
            "a\u{fffa}",
            "a\u{1d173}",
            "a\u{2065}",
        ] {
            assert_eq!(
                fault(name),
                IdentityFault::Other(NAME_HAS_INVISIBLE.to_owned()),
                "{name:?}"
            );
        }
        assert_eq!(fault(""), IdentityFault::Other(NAME_MISSING.to_owned()));
        assert_eq!(fault("  "), IdentityFault::Other(NAME_MISSING.to_owned()));
        assert!(client_name(Some(&"ä".repeat(255)), &[]).is_ok());
        assert_eq!(fault(&"ä".repeat(256)), IdentityFault::Other(NAME_TOO_LONG.to_owned()));
        let dns_with_control = client_name(Some("fine"), &[dns("a\u{7f}")]);
        assert_eq!(dns_with_control, Err(IdentityFault::Other(NAME_HAS_INVISIBLE.to_owned())));
    }

    #[test]
    fn changed_bytes_are_an_error_or_fine_but_never_a_panic() {
        let whole = certificate(Some("common"), &[dns("a"), SanType::IpAddress([0; 16].into())]);
        let mut random = fastrand::Rng::with_seed(2);
        for round in 0..20_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(if round % 2 == 0 { bytes.len() } else { random.usize(..bytes.len()) });
            let der = CertificateDer::from(bytes);
            if let Ok(parsed) = parse(&der) {
                let _ = check_algorithms(&parsed);
                let _ = (has_server_name(&parsed), subject(&parsed));
            }
            for role in [Role::Server, Role::Client] {
                if let Ok(peer) = PeerCertificate::read(&der, role) {
                    assert!(!peer.name.is_empty() && !peer.name.chars().any(is_invisible));
                }
            }
        }
    }

    #[test]
    fn lengths_of_numbers_are_in_bits() {
        assert_eq!([bits(&[]), bits(&[0, 0]), bits(&[1]), bits(&[0, 0x80, 0])], [0, 0, 1, 16]);
    }
}
