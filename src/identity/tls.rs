//! The TLS settings of a pipe.
//!
//! In scope: rustls configurations from a checked identity. Not in scope: connections, and the
//! check of certificates (`verify`).
//!
//! TLS 1.3 only, one provider chosen explicitly, both sides verified against the CA file alone.
//! Sessions are never resumed: resumption skips the check of the certificate, and an original
//! client cannot process a server's tickets.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::verify::Verifier;

/// The application protocol (RFC 7301) by which a client announces a trial connection. A pipe names
/// none.
pub const TRIAL_ALPN: &[u8] = b"restpipe-trial";

/// For a server: each client must present a valid certificate.
pub(crate) fn server_config(
    provider: &Arc<CryptoProvider>,
    certified: &Arc<CertifiedKey>,
    verifier: Arc<Verifier>,
) -> Result<ServerConfig, String> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(certified))));
    config.alpn_protocols = vec![TRIAL_ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// For a client: the server must present a valid certificate for the requested name.
pub(crate) fn client_config(
    provider: &Arc<CryptoProvider>,
    certified: &Arc<CertifiedKey>,
    verifier: Arc<Verifier>,
) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(certified))));
    config.resumption = Resumption::disabled();
    Ok(config)
}
