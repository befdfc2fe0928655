//! The cryptography of every pipe.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Named explicitly: with two providers in one program, rustls would panic.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
