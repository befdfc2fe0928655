//! Why an operation of a CA failed: one fault, one file, one line.
//!
//! In scope: the error, and the faults that several places report. Not in scope: detection; a fault
//! reported in one place only has its message there.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::name::Name;
use crate::identity::error::{IdentityError, IdentityFault};
use crate::identity::text::{clean, shown};

/// A fault and the file it is in. Displays as one line that begins with the file's path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {fault}", shown(.file))]
pub struct CaError {
    /// The file to look at.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: CaFault,
}

impl CaError {
    pub(super) fn new(file: &Path, fault: impl Into<CaFault>) -> Self {
        Self { file: file.to_owned(), fault: fault.into() }
    }
}

impl From<IdentityError> for CaError {
    fn from(error: IdentityError) -> Self {
        Self { file: error.file, fault: error.fault.into() }
    }
}

/// What can go wrong. Displays as a line without the name of the file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaFault {
    /// A fault that a node would also report.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
    /// The CA's key is encrypted and there is no passphrase; why there was no prompt.
    #[error("the key is encrypted and {}; give its passphrase with --passphrase-file FILE", clean(.0))]
    NoPassphrase(String),
    /// The key in a request is too weak or of an unsupported kind; its description.
    #[error(
        "the key in the request is {}; accepted are ECDSA on P-256 or P-384, Ed25519, and RSA of \
         2048 to 8192 bits",
        clean(.0)
    )]
    RequestKey(String),
    /// This CA issued nothing under this name.
    #[error("nothing was issued here for {0}")]
    NeverIssued(Name),
    /// The certificate is not signed by the CA in this file.
    #[error("the certificate is not signed by the CA in {}", shown(.0))]
    NotOurs(PathBuf),
    /// Signing failed; the signer's message.
    #[error("cannot be signed: {}", clean(.0))]
    Unsigned(String),
    /// Anything else, in words.
    #[error("{}", clean(.0))]
    Other(String),
}

impl CaFault {
    pub(super) fn other(words: impl Into<String>) -> Self {
        Self::Other(words.into())
    }

    pub(super) fn unsigned(words: impl ToString) -> Self {
        Self::Unsigned(words.to_string())
    }
}
