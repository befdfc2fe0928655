//! Why an identity cannot be used: one fault, one file, one line.
//!
//! In scope: the error, the faults that callers match on, and those that several places report. Not
//! in scope: detection; a fault reported in one place only has its message there.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::date::Date;
use super::text::{clean, shown};
use crate::event::peer::Role;

/// A fault and the file it is in. Displays as one line that begins with the file's path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {fault}", shown(.file))]
pub struct IdentityError {
    /// The file to look at.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: IdentityFault,
}

impl IdentityError {
    pub(crate) fn new(file: &Path, fault: IdentityFault) -> Self {
        Self { file: file.to_owned(), fault }
    }
}

/// What can be wrong with a file of an identity. Displays as a line without the name of the file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityFault {
    /// The file cannot be read; the system's message.
    #[error("cannot be read: {}", clean(.0))]
    Unreadable(String),
    /// The file cannot be written; the system's message.
    #[error("cannot be written: {}", clean(.0))]
    Unwritable(String),
    /// The file holds no valid PEM; what it holds, or what is wrong with it.
    #[error("is not PEM: {}", clean(.0))]
    NotPem(String),
    /// The file holds PEM of another kind or number.
    #[error("holds {found} where {expected} is needed")]
    WrongKind {
        /// What is needed.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The private key is encrypted; a node starts unattended, so nobody can enter a passphrase.
    #[error(
        "the private key is encrypted; decrypt it first (openssl pkey -in ENCRYPTED -out PLAIN)"
    )]
    Encrypted,
    /// The private key is damaged or of a kind that TLS 1.3 cannot use.
    #[error(
        "the private key is damaged or of an unknown kind; usable are RSA of 2048 to 8192 bits, \
         ECDSA on P-256, P-384 or P-521, and Ed25519"
    )]
    UnusableKey,
    /// The private key does not belong to the certificate in this file.
    #[error("the private key does not belong to the certificate in {}", shown(.0))]
    KeyMismatch(PathBuf),
    /// The certificate cannot be parsed.
    #[error("the certificate cannot be read: {}", clean(.0))]
    Malformed(String),
    /// The certificate has an X.509 version before 3.
    #[error("is an X.509 version {0} certificate; version 3 is needed")]
    OldVersion(u32),
    /// The certificate has expired.
    #[error("the certificate expired on {0}")]
    Expired(Date),
    /// The certificate is not valid yet.
    #[error("the certificate is not valid before {0}")]
    NotYetValid(Date),
    /// The certificate is not signed by a CA in this file.
    #[error("the certificate is not signed by a CA in {}", shown(.0))]
    NotSignedBy(PathBuf),
    /// The certificate's extended key usage forbids this role.
    #[error(
        "the certificate's extended key usage forbids its use as a {}; {} is needed",
        .0.as_str(),
        match .0 { Role::Server => "serverAuth", Role::Client => "clientAuth" }
    )]
    WrongUsage(Role),
    /// A server's certificate has no subject alternative name.
    #[error(
        "the server certificate has no subject alternative name (a DNS name or an IP address), so \
         no client can check it"
    )]
    NoSubjectAltName,
    /// A CA's own certificate is used as a node's.
    #[error("is a CA's own certificate; a node needs one of its own that the CA has signed")]
    CaAsLeaf,
    /// A file of CA certificates holds one that is not a CA certificate; its subject.
    #[error("the certificate of {0} is not a CA certificate; only those belong here")]
    NotCa(String),
    /// The certificate was revoked by its CA.
    #[error("the certificate is revoked")]
    Revoked,
    /// A server's certificate does not cover the expected name.
    #[error(
        "the certificate is for {}, not for {expected}; {}",
        clean(&names.join(", ")),
        match is_dns_name {
            true => "it has this address as a DNS name, which counts for names alone: issue one with an \
                     IP address as alternative name (rp_ca issue NAME --san ADDRESS)",
            false => "RP_CLIENT_SERVER_NAME sets the name to expect",
        }
    )]
    WrongHost {
        /// The expected name.
        expected: String,
        /// The names it covers.
        names: Vec<String>,
        /// Whether the expected name is an address that it has as a DNS name.
        is_dns_name: bool,
    },
    /// The check of the certificate failed for another reason.
    #[error("the certificate is refused: {}", clean(.0))]
    Refused(String),
    /// Anything else, in words.
    #[error("{}", clean(.0))]
    Other(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_the_file_is_called() {
        let error = IdentityError::new(Path::new("a\nb\u{1b}[2J.pem"), IdentityFault::Encrypted);
        assert!(error.to_string().starts_with("a\\nb\\u{1b}[2J.pem: the private key is encrypted"));
        assert!(!error.to_string().chars().any(char::is_control));
    }
}
