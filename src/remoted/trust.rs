//! Which broker certificates a client trusts.
//!
//! In scope: roots of the system or of a file, pins of a certificate. Not in scope: the handshake.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::identity::{check_chain, pem};

/// Most pins.
const MAX_PINS: usize = 16;

/// Which broker certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BrokerTrust {
    /// Those issued under a system root, for the broker's name.
    #[default]
    System,
    /// Those issued under one of the certificates in this PEM file, for the broker's name.
    File(PathBuf),
    /// Only these certificates, whatever names and dates they have.
    Pins(Vec<Pin>),
}

/// The SHA-256 of a DER certificate: `openssl x509 -noout -fingerprint -sha256`.
///
/// It is parsed from 64 hexadecimal digits of either case, with or without colons.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl FromStr for Pin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const ACCEPTED: &str = "a SHA-256 is 64 hexadecimal digits, with or without colons";
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ACCEPTED);
        }
        let mut pin = [0; 32];
        for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ACCEPTED)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ACCEPTED)?;
        }
        Ok(Self(pin))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl BrokerTrust {
    /// The settings of a TLS client. Errors say what to do.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?;
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::System => Issued::by(system_roots()?, provider)?,
            Self::File(file) => {
                let bytes = pem::read_file(file).map_err(|error| error.to_string())?;
                let certificates =
                    pem::certificates(&bytes, file).map_err(|error| error.to_string())?;
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate).map_err(|error| {
                        format!("{}: a certificate cannot be used: {error}", file.display())
                    })?;
                }
                Issued::by(roots, provider)?
            }
            Self::Pins(pins) if pins.is_empty() || pins.len() > MAX_PINS => {
                return Err(format!("there may be 1 to {MAX_PINS} pins"));
            }
            Self::Pins(pins) => Arc::new(Pinned { pins: pins.clone(), provider }),
        };
        let mut config =
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        // Otherwise a web server in front of a broker might choose HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Ignores unreadable system certificates, as other programs do.
fn system_roots() -> Result<RootCertStore, String> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (count, _) = roots.add_parsable_certificates(loaded.certs);
    if count == 0 {
        let why = loaded.errors.first().map_or(String::new(), |error| format!(" ({error})"));
        return Err(format!(
            "this system has no root certificates{why}: install ca-certificates, or give --ca or \
             --pin"
        ));
    }
    Ok(roots)
}

/// Verifies as rustls does, but first rejects chains that are expensive to check: an impostor of
/// the broker chooses its chain freely.
#[derive(Debug)]
struct Issued(Arc<WebPkiServerVerifier>);

impl Issued {
    fn by(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Arc<Self>, String> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(|verifier| Arc::new(Self(verifier)))
            .map_err(|error| error.to_string())
    }
}

impl ServerCertVerifier for Issued {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain(certificate, intermediates)
            .map_err(|fault| CertificateError::Other(OtherError(Arc::new(fault))))?;
        self.0.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Accepts the pinned certificates and no others.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = digest(&SHA256, certificate);
        if self.pins.iter().any(|pin| pin.0 == seen.as_ref()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    /// Never called: only TLS 1.3 is enabled.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    /// Checks that the peer holds the certificate's key.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The reason a handshake failed, as text.
pub(super) fn refusal(error: &std::io::Error) -> String {
    use rustls::InvalidMessage;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        None if error.kind() == std::io::ErrorKind::TimedOut => {
            "the TLS handshake was not finished in time".to_owned()
        }
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the peer ended the connection during the TLS handshake".to_owned()
        }
        None => format!("the TLS handshake failed: {error}"),
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            "the broker's certificate has another SHA-256 than the pinned one".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the broker's certificate is refused: its issuer is not trusted (see --ca and --pin)"
                .to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => {
            format!("the broker is refused: {why}")
        }
        Some(Error::InvalidCertificate(why)) => {
            format!("the broker's certificate is refused: {why}")
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the peer does not speak TLS on this port".to_owned()
        }
        Some(error) => format!("the TLS handshake failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_openssl_writes_it() {
        let plain = "00ff".repeat(16);
        let pin: Pin = plain.parse().unwrap();
        assert_eq!(format!("{pin:?}"), plain);
        assert_eq!(["00:FF"; 16].join(":").parse(), Ok(pin));
        for wrong in ["", "00ff", &"0g".repeat(32), &"00".repeat(33), &"é".repeat(32)] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_an_error() {
        let missing = BrokerTrust::File("/no/such/file".into()).client_config().unwrap_err();
        assert!(missing.contains("/no/such/file"), "{missing}");
        assert!(BrokerTrust::Pins(Vec::new()).client_config().is_err());
        let config = BrokerTrust::Pins(vec![Pin([0; 32])]).client_config().unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    }
}
