//! What the files in a CA's directory are called.

use super::name::Name;

/// The CA's private key.
pub(super) const CA_KEY: &str = "ca.key.pem";
/// The CA's certificate.
pub(super) const CA_CRT: &str = "ca.crt.pem";
/// The revocation list.
pub(super) const CRL: &str = "ca.crl.pem";
/// Held while something is changed.
pub(super) const LOCK: &str = ".lock";
/// The directory of copies of all that was issued.
pub(super) const ISSUED: &str = "issued";
/// How the file of a certificate ends.
pub(super) const CRT_SUFFIX: &str = ".crt.pem";

pub(super) fn key_file(name: &Name) -> String {
    format!("{name}.key.pem")
}

pub(super) fn crt_file(name: &Name) -> String {
    format!("{name}{CRT_SUFFIX}")
}

pub(super) fn csr_file(name: &Name) -> String {
    format!("{name}.csr.pem")
}
