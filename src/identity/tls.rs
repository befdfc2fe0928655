//! The TLS settings of a pipe.
//!
//! In scope: rustls configurations from a checked identity. Not in scope: connections, and the
//! judgement of certificates (`verify`).
//!
//! TLS 1.3 only, one provider chosen by name, both sides verified against the CA file alone. No
//! session is ever resumed: a resumed one skips the check of the certificate. And a server's
//! tickets are data that an original client cannot take.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::verify::Verifier;

/// The application protocol (RFC 7301) by which a client says that it only tries whether it could
/// connect. A pipe names none.
pub const TRIAL_ALPN: &[u8] = b"restpipe-trial";

/// How a server meets its clients: each must show a certificate that passes.
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

/// How a client meets its server: it must show a certificate that passes, for the name that was
/// asked for.
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
