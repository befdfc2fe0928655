//! A certificate request (PKCS#10, RFC 2986): proof of possession of the key, and what it asks for.
//!
//! In scope: reading one, and listing what an order does not grant. Not in scope: what is granted.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::error::{CaError, CaFault};
use super::name::Name;
use super::order::Order;
use crate::event::peer::Role;
use crate::identity::signature::is_signed_by;
use crate::identity::text::clean;
use crate::identity::{certificate, pem};

/// How many items that are not granted are listed one by one.
const MAX_LISTED_WISHES: usize = 20;

/// How much of each is shown, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// A request with a valid signature and an acceptable key.
#[derive(Debug)]
pub(super) struct CertificateRequest {
    /// The first common name of its subject.
    pub common_name: Option<String>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    asks: Vec<Ask>,
}

/// One thing that a request asks for.
#[derive(Debug)]
enum Ask {
    /// A common name or alternative name, and how the request spells it.
    Name(String, String),
    /// Use in this role.
    Role(Role),
    /// Something that is never granted.
    Other(String),
}

impl CertificateRequest {
    /// Reads the one request in `file`.
    pub fn read(file: &Path) -> Result<Self, CaError> {
        let der = pem::request(&pem::read_guarded(file)?, file)?;
        Self::parse(&der).map_err(|fault| CaError::new(file, fault))
    }

    fn parse(der: &[u8]) -> Result<Self, CaFault> {
        let malformed =
            |why: &str| CaFault::other(format!("the certificate request cannot be read: {why}"));
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|e| malformed(&e.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("there are bytes after its end"));
        }
        let info = &request.certification_request_info;
        check_key(&info.subject_pki)?;
        let (algorithm, signature) = (&request.signature_algorithm, &request.signature_value);
        if !is_signed_by(&info.subject_pki, algorithm, info.raw, signature) {
            return Err(CaFault::other(
                "the certificate request is not signed by its own key with SHA-256 or better; it \
                 is damaged, or whoever made it does not have the key",
            ));
        }
        let mut asks = Vec::new();
        let mut common_name = None;
        for attribute in info.subject.iter_attributes() {
            let kind = short_name(attribute.attr_type());
            let value = attribute.as_str().map(str::to_owned);
            let value = value
                .unwrap_or_else(|_| String::from_utf8_lossy(attribute.as_slice()).into_owned());
            let shown = format!("{kind}={value}");
            if kind == "CN" {
                common_name.get_or_insert_with(|| value.clone());
                asks.push(Ask::Name(value, shown));
            } else {
                asks.push(Ask::Other(shown));
            }
        }
        for attribute in info.iter_attributes() {
            match attribute.parsed_attribute() {
                ParsedCriAttribute::ExtensionRequest(wanted) => {
                    wanted.extensions.iter().for_each(|extension| add(extension, &mut asks));
                }
                // Its value is a secret.
                ParsedCriAttribute::ChallengePassword(_) => {
                    asks.push(Ask::Other("a challenge password".to_owned()));
                }
                ParsedCriAttribute::UnsupportedAttribute => {
                    asks.push(Ask::Other(format!("attribute {}", short_name(&attribute.oid))));
                }
            }
        }
        Ok(Self { common_name, public_key: info.subject_pki.raw.to_owned(), asks })
    }

    /// What it asks for but `order` does not grant, one line each, without control characters.
    pub fn left_out(&self, order: &Order) -> Vec<String> {
        let names: Vec<&Name> = std::iter::once(&order.name).chain(&order.alternatives).collect();
        let is_given = |name: &str| {
            let name: Option<Name> = name.parse().ok();
            name.is_some_and(|name| names.contains(&&name))
        };
        let mut lines: Vec<String> = Vec::new();
        for ask in &self.asks {
            let line = match ask {
                Ask::Name(name, _) if is_given(name) => continue,
                Ask::Role(role) if *role == order.role => continue,
                Ask::Name(_, shown) | Ask::Other(shown) => shown.clone(),
                Ask::Role(Role::Server) => "use as a server".to_owned(),
                Ask::Role(Role::Client) => "use as a client".to_owned(),
            };
            let line = clean(&line.chars().take(MAX_SHOWN_CHARS).collect::<String>());
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        if lines.len() > MAX_LISTED_WISHES {
            let more = lines.len() - MAX_LISTED_WISHES;
            lines.truncate(MAX_LISTED_WISHES);
            lines.push(format!("and {more} more"));
        }
        lines
    }
}

/// SHA-256 of a SubjectPublicKeyInfo, lower-case hex, to be compared on both machines.
pub(super) fn key_fingerprint(public_key: &[u8]) -> String {
    certificate::fingerprint(&CertificateDer::from(public_key))
}

/// Adds what an extension asks for, except what every node gets: not being a CA, and a key that may
/// sign.
fn add(extension: &X509Extension<'_>, asks: &mut Vec<Ask>) {
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            asks.extend(names.general_names.iter().map(alternative_name));
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            if usage.server_auth {
                asks.push(Ask::Role(Role::Server));
            }
            if usage.client_auth {
                asks.push(Ask::Role(Role::Client));
            }
            let others = [
                (usage.any, "any use"),
                (usage.code_signing, "use for signing code"),
                (usage.email_protection, "use for e-mail"),
                (usage.time_stamping, "use for time stamps"),
                (usage.ocsp_signing, "use for OCSP"),
            ];
            let asked = others.iter().filter(|(asked, _)| *asked);
            asks.extend(asked.map(|(_, text)| Ask::Other((*text).to_owned())));
            let others = usage.other.iter();
            asks.extend(others.map(|oid| Ask::Other(format!("use for {}", short_name(oid)))));
        }
        ParsedExtension::BasicConstraints(constraints) => {
            if constraints.ca {
                asks.push(Ask::Other("to be a CA".to_owned()));
            }
        }
        ParsedExtension::KeyUsage(usage) => {
            if usage.flags & !1 != 0 {
                asks.push(Ask::Other(format!("key usage {usage}")));
            }
        }
        _ => asks.push(Ask::Other(format!("extension {}", short_name(&extension.oid)))),
    }
}

fn alternative_name(name: &GeneralName<'_>) -> Ask {
    match name {
        GeneralName::DNSName(name) => Ask::Name((*name).to_owned(), format!("DNS:{name}")),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(std::net::IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            match address {
                Ok(address) => Ask::Name(address.to_string(), format!("IP:{address}")),
                Err(_) => Ask::Other("IP: of a wrong length".to_owned()),
            }
        }
        GeneralName::RFC822Name(name) => Ask::Other(format!("email:{name}")),
        GeneralName::URI(uri) => Ask::Other(format!("URI:{uri}")),
        _ => Ask::Other("an alternative name of a rare kind".to_owned()),
    }
}

fn short_name(oid: &Oid<'_>) -> String {
    oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
}

/// Accepts only keys that every TLS 1.3 peer accepts and that remain secure for years.
fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), CaFault> {
    const EC: &str = "1.2.840.10045.2.1";
    const P256: &str = "1.2.840.10045.3.1.7";
    const P384: &str = "1.3.132.0.34";
    const ED25519: &str = "1.3.101.112";
    let kind = key.algorithm.algorithm.to_id_string();
    let refused = |what: String| Err(CaFault::RequestKey(what));
    match (kind.as_str(), key.parsed()) {
        (ED25519, _) => Ok(()),
        (EC, _) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            match curve.map(|oid| oid.to_id_string()).as_deref() {
                Some(P256 | P384) => Ok(()),
                Some(other) => refused(format!("ECDSA on the curve {other}")),
                None => refused("ECDSA on a curve without a name".to_owned()),
            }
        }
        (_, Ok(PublicKey::RSA(rsa))) => match rsa.key_size() {
            2048..=8192 => Ok(()),
            bits => refused(format!("RSA of {bits} bits")),
        },
        _ => refused(format!("of the kind {kind}")),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

    use super::super::resigned;
    use super::*;

    #[test]
    fn odd_requests_are_an_error_or_fine_but_never_a_panic() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a".to_owned(), "::1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
        let message = parsed.certification_request_info.raw;
        let order = Order {
            name: "a".parse().unwrap(),
            role: Role::Client,
            alternatives: Vec::new(),
            days: 1,
        };

        let mut random = fastrand::Rng::with_seed(8);
        let mut read = 0;
        for _ in 0..5000 {
            let changed = resigned(message, &key, &mut random);
            let mut cut = changed.clone();
            cut.truncate(random.usize(..cut.len()));
            for der in [&changed, &cut] {
                match CertificateRequest::parse(der) {
                    Ok(request) => {
                        read += 1;
                        let lines = request.left_out(&order);
                        assert!(lines.len() <= MAX_LISTED_WISHES + 1);
                        let mut all = lines.iter().flat_map(|line| line.chars());
                        assert!(!all.any(char::is_control), "{lines:?}");
                    }
                    Err(fault) => {
                        assert!(!fault.to_string().chars().any(char::is_control), "{fault}");
                    }
                }
            }
        }
        assert!(read > 300, "{read}");
    }

    #[test]
    fn many_wishes_are_told_in_few_lines() {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = (0..100).map(|n| format!("host{n}")).collect();
        let params = CertificateParams::new(names).unwrap();
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        let order = Order {
            name: "host0".parse().unwrap(),
            role: Role::Client,
            alternatives: Vec::new(),
            days: 1,
        };
        let lines = CertificateRequest::parse(&der).unwrap().left_out(&order);
        assert_eq!(lines.len(), MAX_LISTED_WISHES + 1);
        // 99 names, and the common name that rcgen adds.
        assert_eq!(lines.last().unwrap(), "and 80 more");
    }
}
