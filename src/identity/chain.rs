//! Which certificate chains are examined at all, before any signature is checked.
//!
//! In scope: how many certificates a peer may send, how large, and no name twice. Not in scope:
//! whether they are trusted (`trust`).
//!
//! To build a path from a certificate to a CA, `webpki` tries every order of the intermediate ones,
//! and copies of one name multiply the orders: 287 certificates in 64 KiB cost seconds, even from
//! an unauthenticated peer. If each name occurs once, there is one order.

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use webpki::EndEntityCert;

use super::certificate;
use super::text::clean;

/// The maximum number of intermediate certificates: the longest path that `webpki` follows. Public
/// CAs need one to three.
pub const MAX_INTERMEDIATES: usize = 6;

/// The maximum size of a chain, in bytes of DER. One certificate has some 2 KiB, seven with
/// 8192-bit RSA keys some 20 KiB.
pub const MAX_CHAIN_BYTES: usize = 32 * 1024;

/// Refuses a chain beyond any legitimate use. Checks no signature; its work is bounded by the
/// limits above.
pub fn check_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), ChainFault> {
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(ChainFault::TooLong(intermediates.len()));
    }
    let bytes = intermediates.iter().fold(leaf.len(), |sum, der| sum.saturating_add(der.len()));
    if bytes > MAX_CHAIN_BYTES {
        return Err(ChainFault::TooLarge(bytes));
    }
    if intermediates.contains(leaf) {
        return Err(repeated(leaf));
    }
    let mut names = Vec::with_capacity(intermediates.len());
    for der in intermediates {
        // One that `webpki` cannot read is on no path to a CA.
        let Ok(certificate) = EndEntityCert::try_from(der) else { continue };
        // The bytes of a name, as `webpki` compares them.
        let name = certificate.subject().to_vec();
        if names.contains(&name) {
            return Err(repeated(der));
        }
        names.push(name);
    }
    Ok(())
}

fn repeated(der: &CertificateDer<'_>) -> ChainFault {
    let subject = certificate::parse(der).map(|certificate| certificate::subject(&certificate));
    ChainFault::Repeated(subject.unwrap_or_else(|_| "an unreadable subject".to_owned()))
}

/// Why a chain is refused before its signatures are checked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainFault {
    /// Too many intermediate certificates; their number.
    #[error(
        "the certificate chain has {0} intermediate certificates, more than {MAX_INTERMEDIATES}; \
         {CHAIN_ADVICE}"
    )]
    TooLong(usize),
    /// Too many bytes; their number.
    #[error("the certificate chain has {0} bytes, more than {MAX_CHAIN_BYTES}; {CHAIN_ADVICE}")]
    TooLarge(usize),
    /// Two certificates with this subject.
    #[error(
        "the certificate chain has more than one certificate of {}; {CHAIN_ADVICE}",
        clean(.0)
    )]
    Repeated(String),
}

const CHAIN_ADVICE: &str =
    "send only the certificate and the intermediate ones below its CA, each once";

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa,
        KeyPair,
    };

    use super::*;

    /// A certificate with this name, this much padding in bytes and a new key.
    fn certificate(name: &str, more: usize) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if more > 0 {
            let filler =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999], vec![0; more]);
            params.custom_extensions = vec![filler];
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn named(count: usize) -> Vec<CertificateDer<'static>> {
        (0..count).map(|at| certificate(&format!("CA {at}"), 0)).collect()
    }

    #[test]
    fn a_chain_may_be_as_long_as_a_path_and_no_longer() {
        let leaf = certificate("web1", 0);
        assert_eq!(check_chain(&leaf, &[]), Ok(()));
        assert_eq!(check_chain(&leaf, &named(6)), Ok(()));
        assert_eq!(check_chain(&leaf, &named(7)), Err(ChainFault::TooLong(7)));
        assert_eq!(
            ChainFault::TooLong(285).to_string(),
            "the certificate chain has 285 intermediate certificates, more than 6; send only the \
             certificate and the intermediate ones below its CA, each once"
        );
    }

    #[test]
    fn a_chain_has_a_bound_in_bytes_wherever_they_are() {
        let (small, large) = (certificate("a", 0), certificate("b", 20_000));
        assert_eq!(check_chain(&large, &[certificate("c", 10_000)]), Ok(()));
        let others = [certificate("c", 20_000), certificate("d", 0)];
        let bytes = large.len() + others[0].len() + others[1].len();
        assert_eq!(check_chain(&large, &others), Err(ChainFault::TooLarge(bytes)));
        let huge = certificate("e", 60_000);
        assert_eq!(check_chain(&huge, &[]), Err(ChainFault::TooLarge(huge.len())));
        assert!(matches!(check_chain(&small, &[huge]), Err(ChainFault::TooLarge(_))));
    }

    #[test]
    fn nothing_stands_in_a_chain_twice() {
        let leaf = certificate("web1", 0);
        let [one, two] = [certificate("CA", 0), certificate("Other CA", 0)];
        assert_eq!(check_chain(&leaf, &[one.clone(), two.clone()]), Ok(()));
        let repeated = |subject: &str| Err(ChainFault::Repeated(format!("CN={subject}")));
        let same = [one.clone(), two.clone(), one.clone()];
        assert_eq!(check_chain(&leaf, &same), repeated("CA"));
        assert_eq!(check_chain(&leaf, &[one.clone(), leaf.clone()]), repeated("web1"));
        // Another key with the same name adds a path.
        assert_eq!(check_chain(&leaf, &[one, two, certificate("CA", 0)]), repeated("CA"));
    }

    #[test]
    fn what_is_no_certificate_is_no_ones_double() {
        let leaf = certificate("web1", 0);
        let nothing = CertificateDer::from(vec![0x30, 0]);
        assert_eq!(check_chain(&leaf, &[nothing.clone(), certificate("CA", 0), nothing]), Ok(()));
    }
}
