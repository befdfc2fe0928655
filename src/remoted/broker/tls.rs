//! The TLS settings of a broker that needs no web server in front of it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use crate::config::TlsFiles;
use crate::identity::pem;

/// TLS 1.3 with this certificate. The other side proves itself by its key, so sessions may be
/// resumed.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let read = |file| pem::read_file(file).map_err(|e| e.to_string());
    let chain = pem::certificates(&read(&files.crt)?, &files.crt).map_err(|e| e.to_string())?;
    let key = pem::private_key(&read(&files.key)?, &files.key).map_err(|e| e.to_string())?;
    let fits = |error| {
        let (crt, key) = (files.crt.display(), files.key.display());
        format!("{crt}: cannot be used with {key}: {error}")
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(fits)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(fits)?;
    // Tickets that this process alone can read: nothing to keep per session.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(fits)?;
    Ok(Arc::new(config))
}
