//! The TLS settings of a broker without a web server in front.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use crate::config::TlsFiles;
use crate::identity::{check_chain, open_key, pem};

/// TLS 1.3 with this certificate. Peers authenticate with their keys, so sessions may be resumed.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let read = |file| pem::read_file(file).map_err(|e| e.to_string());
    let chain = pem::certificates(&read(&files.crt)?, &files.crt).map_err(|e| e.to_string())?;
    // A certificate that RestPipe's own callers would reject is refused here, where the operator
    // can fix it.
    if let Some((certificate, intermediates)) = chain.split_first() {
        check_chain(certificate, intermediates)
            .map_err(|fault| format!("{}: {fault}", files.crt.display()))?;
    }
    if let Some(text) = open_key(&files.key) {
        log::warn!("{text}");
    }
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
    // Tickets that only this process can read: no state per session.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(fits)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::ca::{self, Order};
    use crate::event::peer::Role;

    #[test]
    fn a_chain_that_no_caller_accepts_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let now = UnixTime::now();
        ca::init(dir.path(), 10, now).unwrap();
        let name = "localhost".parse().unwrap();
        let order = Order { name, role: Role::Server, alternatives: Vec::new(), days: 1 };
        let made = ca::issue(dir.path(), &order, now).unwrap();
        let files = TlsFiles { crt: made.crt, key: made.key };
        server_config(&files).unwrap();
        let chain = std::fs::read_to_string(&files.crt).unwrap();
        std::fs::write(&files.crt, chain.repeat(2)).unwrap();
        let error = server_config(&files).unwrap_err();
        let begin = format!("{}: the certificate chain has more than one", files.crt.display());
        assert!(error.starts_with(&begin), "{error}");
    }
}
