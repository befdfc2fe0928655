//! The names of the files in a CA's directory.

use super::name::Name;

/// The CA's private key.
pub(super) const CA_KEY: &str = "ca.key.pem";
/// The CA's certificate.
pub(super) const CA_CRT: &str = "ca.crt.pem";
/// The revocation list.
pub(super) const CRL: &str = "ca.crl.pem";
/// Held during changes.
pub(super) const LOCK: &str = ".lock";
/// The directory with a copy of each issued certificate.
pub(super) const ISSUED: &str = "issued";
/// The suffix of a certificate's file.
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
