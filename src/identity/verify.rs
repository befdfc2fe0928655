//! The check of `trust` as a rustls verifier, and a record of what was checked.
//!
//! rustls does not keep a certificate that it refuses. So every handshake has a
//! [`PresentedCertificate`], which records the certificate and its fault.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ExtendedKeyPurpose,
    OtherError, SignatureScheme,
};

use super::certificate;
use super::error::IdentityFault;
use super::trust::{self, TrustStore};
use crate::event::peer::Role;

/// A certificate that a peer has presented. Displays as `certificate CN=web1 (sha256 ...)` and, if
/// it was refused, the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Its subject, on one line.
    pub subject: String,
    /// SHA-256 of its DER form, lower-case hex.
    pub fingerprint: String,
    /// Why it was refused.
    pub fault: Option<IdentityFault>,
}

impl CertificateSummary {
    /// Summarizes a certificate and the result of its check.
    pub fn new(der: &CertificateDer<'_>, fault: Option<IdentityFault>) -> Self {
        let subject = certificate::parse(der)
            .map_or_else(|_| "of unreadable form".to_owned(), |c| certificate::subject(&c));
        Self { subject, fingerprint: certificate::fingerprint(der), fault }
    }
}

impl fmt::Display for CertificateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} (sha256 {})", self.subject, self.fingerprint)?;
        match &self.fault {
            Some(fault) => write!(f, ": {fault}"),
            None => Ok(()),
        }
    }
}

/// Records the certificate of one handshake.
#[derive(Clone, Debug, Default)]
pub struct PresentedCertificate {
    /// Guards one value; only ever held to copy it.
    seen: Arc<Mutex<Option<CertificateSummary>>>,
}

impl PresentedCertificate {
    /// The certificate, if the peer presented one.
    pub fn summary(&self) -> Option<CertificateSummary> {
        self.seen.lock().clone()
    }

    fn remember(&self, leaf: &CertificateDer<'_>, fault: Option<&IdentityFault>) {
        let seen = CertificateSummary::new(leaf, fault.cloned());
        *self.seen.lock() = Some(seen);
    }
}

/// Verifies the peer of one handshake.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub trust: Arc<TrustStore>,
    /// The names of the CAs, which a server sends with its certificate request.
    pub hints: Arc<[DistinguishedName]>,
    pub presented: PresentedCertificate,
}

impl Verifier {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        host: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let judged = self
            .trust
            .judge_peer(leaf, intermediates, role, now)
            .and_then(|_| host.map_or(Ok(()), |host| trust::check_host(leaf, host)));
        // A certificate that passes is read later, for the connection.
        judged.map_err(|fault| {
            self.presented.remember(leaf, Some(&fault));
            Error::InvalidCertificate(tls_error(fault, host, now))
        })
    }
}

/// The fault as a rustls error, which selects the alert sent to the peer.
fn tls_error(
    fault: IdentityFault,
    host: Option<&ServerName<'_>>,
    now: UnixTime,
) -> CertificateError {
    match (fault, host) {
        (IdentityFault::Expired(end), _) => {
            CertificateError::ExpiredContext { time: now, not_after: end.to_unix() }
        }
        (IdentityFault::NotYetValid(begin), _) => {
            CertificateError::NotValidYetContext { time: now, not_before: begin.to_unix() }
        }
        (IdentityFault::NotSignedBy(_), _) => CertificateError::UnknownIssuer,
        (IdentityFault::Revoked, _) => CertificateError::Revoked,
        (IdentityFault::Malformed(_), _) => CertificateError::BadEncoding,
        (IdentityFault::WrongUsage(role), _) => CertificateError::InvalidPurposeContext {
            required: match role {
                Role::Server => ExtendedKeyPurpose::ServerAuth,
                Role::Client => ExtendedKeyPurpose::ClientAuth,
            },
            presented: Vec::new(),
        },
        (IdentityFault::WrongHost { names, .. }, Some(host)) => {
            CertificateError::NotValidForNameContext { expected: host.to_owned(), presented: names }
        }
        (fault, _) => {
            CertificateError::Other(OtherError(Arc::new(std::io::Error::other(fault.to_string()))))
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, Role::Server, Some(server_name), now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, Role::Client, None, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
