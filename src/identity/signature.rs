//! Verification of signatures, in the form that certificates, requests and revocation lists share.
//!
//! `x509-parser` can verify signatures, too, but accepts SHA-1 and supports neither P-521 nor ECDSA
//! with SHA-512, which nodes and CAs may use.

use rustls::pki_types::SubjectPublicKeyInfoDer;
use webpki::RawPublicKeyEntity;
use x509_parser::asn1_rs::BitString;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::provider::provider;

/// Whether `key` signed `message` with the given algorithm, which must be one of TLS 1.3; none of
/// those uses SHA-1.
pub(crate) fn is_signed_by(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &BitString<'_>,
) -> bool {
    let key = SubjectPublicKeyInfoDer::from(key.raw);
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
    let named = algorithm.algorithm.as_bytes();
    // Tag, length and value of the object identifier, then the parameters.
    let is_named = |id: &[u8]| match id {
        [_, length, rest @ ..] => usize::from(*length) == named.len() && rest.starts_with(named),
        _ => false,
    };
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms.all.iter();
    algorithms
        .filter(|one| is_named(one.signature_alg_id().as_ref()))
        .any(|one| key.verify_signature(*one, message, &signature.data).is_ok())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
        PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    };

    use super::super::certificate;
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_key_its_message_and_its_algorithm_alone() {
        let kinds = [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ECDSA_P521_SHA512,
            &PKCS_ED25519,
        ];
        let signed = kinds.map(|kind| {
            let key = KeyPair::generate_for(kind).unwrap();
            CertificateParams::new(["a".to_owned()]).unwrap().self_signed(&key).unwrap()
        });
        let parsed = signed.each_ref().map(|one| certificate::parse(one.der()).unwrap());
        for (at, one) in parsed.iter().enumerate() {
            let message = one.tbs_certificate.as_ref();
            for (other_at, other) in parsed.iter().enumerate() {
                let by_key = is_signed_by(
                    other.public_key(),
                    &one.signature_algorithm,
                    message,
                    &one.signature_value,
                );
                assert_eq!(by_key, at == other_at, "{at} {other_at}");
                let by_algorithm = is_signed_by(
                    one.public_key(),
                    &other.signature_algorithm,
                    message,
                    &one.signature_value,
                );
                assert_eq!(by_algorithm, at == other_at, "{at} {other_at}");
            }
            let (key, algorithm) = (one.public_key(), &one.signature_algorithm);
            assert!(!is_signed_by(key, algorithm, &message[1..], &one.signature_value));
        }
    }
}
