//! TLS settings and identities of raw peers.

use std::fs;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::Identities;

/// Certificates, leaf first, and the key of the leaf.
pub type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client that presents this identity, or none, and accepts any server: like the original, which
/// checks no certificate and sends no server name.
pub fn dialing(identity: Option<(&Identities, &str)>) -> Arc<ClientConfig> {
    dialing_with(identity.map(|(identities, name)| read_identity(identities, name)))
}

/// As [`dialing`], with this chain.
pub fn dialing_with(identity: Option<Chain>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    };
    config.enable_sni = false;
    Arc::new(config)
}

/// A server that presents this identity and accepts any client of the same CA: like the original,
/// session tickets included.
pub fn accepting(identities: &Identities, name: &str) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(identities.path("ca.crt.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let (chain, key) = read_identity(identities, name);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.send_tls13_tickets = 2;
    Arc::new(config)
}

/// A server that presents this chain and requests no client certificate.
pub fn accepting_anybody((chain, key): Chain) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// What `rp_ca` made for this name.
pub fn read_identity(identities: &Identities, name: &str) -> Chain {
    let crt = identities.path(&format!("{name}.crt.pem"));
    let key = identities.path(&format!("{name}.key.pem"));
    (vec![CertificateDer::from_pem_file(crt).unwrap()], PrivateKeyDer::from_pem_file(key).unwrap())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Issues an identity that `rp_ca` would not: X.509 v3 with a common name only, as the original's
/// documents describe, modified by `change`.
pub fn issue(identities: &Identities, name: &str, change: impl FnOnce(&mut CertificateParams)) {
    let ca_key = fs::read_to_string(identities.path("ca.key.pem")).unwrap();
    let ca_crt = fs::read_to_string(identities.path("ca.crt.pem")).unwrap();
    let ca_key = KeyPair::from_pem(&ca_key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca_crt, ca_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let crt = params.signed_by(&key, &issuer).unwrap();
    fs::write(identities.path(&format!("{name}.key.pem")), key.serialize_pem()).unwrap();
    fs::write(identities.path(&format!("{name}.crt.pem")), crt.pem()).unwrap();
}

/// Accepts any server certificate.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A chain without a trusted root, as large as a TLS message allows, with 60,000 paths through it: a
/// certificate for `name`, nine CAs of the same name, none signed by another, and fillers that are
/// read again at each step.
pub fn endless_chain(name: &str) -> Chain {
    let named = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let key = || KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut authority = named("L");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(authority.clone(), key());

    let mut leaf = named(name);
    leaf.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    let leaf_key = key();
    let mut chain = vec![leaf.signed_by(&leaf_key, &issuer).unwrap().der().clone()];
    chain.extend((0..9).map(|_| authority.signed_by(&key(), &issuer).unwrap().der().clone()));
    let filler = named("F").signed_by(&key(), &issuer).unwrap().der().clone();
    // A message has at most 65,535 bytes; each certificate adds 5 bytes, and a context may precede them.
    let size = |chain: &[CertificateDer<'_>]| chain.iter().map(|der| der.len() + 5).sum::<usize>();
    while size(&chain) + filler.len() < 65_000 {
        chain.push(filler.clone());
    }
    (chain, PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap())
}
