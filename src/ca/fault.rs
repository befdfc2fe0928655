//! Why a CA cannot do what it was asked for.
//!
//! In scope: the faults that only a CA meets, and their messages. Not in scope: finding them, and
//! the faults that a node's identity has too (`identity::Fault`).

use std::fmt;
use std::path::PathBuf;

use super::crl::Revoked;
use super::name::Name;
use crate::identity::error::{Fault, clean, shown};

/// What can be in a CA's way. Displays as a line without the name of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaFault {
    /// The CA's key is encrypted and nobody gave a passphrase; why nobody could be asked.
    NoPassphrase(String),
    /// A passphrase cannot be taken; why.
    BadPassphrase(&'static str),
    /// The key cannot be decrypted with this passphrase.
    WrongPassphrase,
    /// The key is encrypted in a way that is not read; which.
    KeyCipher(String),
    /// The certificate request cannot be understood.
    MalformedRequest(String),
    /// The certificate request is not signed by its own key.
    RequestSignature,
    /// The key in the request is too weak or of a kind that is not signed.
    RequestKey(String),
    /// The request asks for this name, and the command does not say whether it shall have it.
    Unconfirmed(String),
    /// Neither the request nor its file has a name that a certificate can be for.
    Nameless,
    /// Nothing was issued under this name.
    NeverIssued(Name),
    /// All that was issued under this name is revoked.
    AllRevoked(Name),
    /// The certificate is revoked.
    Revoked(Revoked),
    /// The certificate is not signed by the CA in this file.
    NotOurs(PathBuf),
    /// The certificate has a name or usage that this CA does not give, so it cannot be renewed.
    NotRenewable(&'static str),
    /// The revocation list cannot be understood.
    MalformedList(String),
    /// The revocation list is not signed by the CA in this file.
    ListOfAnother(PathBuf),
    /// The file has more than one revocation list, where this CA keeps one.
    ManyLists,
    /// Another process is writing here and does not finish.
    Busy,
    /// It could not be signed; the signer's words.
    Unsigned(String),
}

impl From<CaFault> for Fault {
    fn from(fault: CaFault) -> Self {
        Self::Ca(fault.to_string())
    }
}

impl fmt::Display for CaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPassphrase(why) => write!(
                f,
                "the key is encrypted and {}; give its passphrase with --passphrase-file FILE",
                clean(why)
            ),
            Self::BadPassphrase(why) => f.write_str(why),
            Self::WrongPassphrase => f.write_str("the passphrase does not open this key"),
            Self::KeyCipher(how) => write!(
                f,
                "the key is encrypted with {}, which is not read; convert it \
                 (openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW)",
                clean(how)
            ),
            Self::MalformedRequest(why) => {
                write!(f, "the certificate request cannot be read: {}", clean(why))
            }
            Self::RequestSignature => f.write_str(
                "the certificate request is not signed by its own key with SHA-256 or better; it \
                 is damaged, or whoever made it does not have the key",
            ),
            Self::RequestKey(what) => write!(
                f,
                "the key in the request is {}; accepted are ECDSA on P-256 or P-384, Ed25519, and \
                 RSA of 2048 to 8192 bits",
                clean(what)
            ),
            Self::Unconfirmed(name) => write!(
                f,
                "the request asks for the name {:?}, which neither its file's name nor --san says \
                 too; give the name it shall have with --name",
                clean(name)
            ),
            Self::Nameless => f.write_str(
                "neither the request nor its file's name says whose it is; give the name with \
                 --name",
            ),
            Self::NeverIssued(name) => write!(f, "nothing was issued here for {name}"),
            Self::AllRevoked(name) => write!(
                f,
                "all certificates for {name} are revoked, and with them their key; make a new \
                 identity under a new name, or move the old files away first"
            ),
            Self::Revoked(revoked) => write!(f, "the certificate was {revoked}"),
            Self::NotOurs(ca) => {
                write!(f, "the certificate is not signed by the CA in {}", shown(ca))
            }
            Self::NotRenewable(why) => write!(f, "the certificate cannot be renewed: {why}"),
            Self::MalformedList(why) => {
                write!(f, "the revocation list cannot be read: {}", clean(why))
            }
            Self::ListOfAnother(ca) => {
                write!(f, "the revocation list is not signed by the CA in {}", shown(ca))
            }
            Self::ManyLists => f.write_str("holds several revocation lists; leave only one"),
            Self::Busy => f.write_str(
                "another rp_ca has held this lock for 10 s; try again when it has finished",
            ),
            Self::Unsigned(why) => write!(f, "cannot be signed: {}", clean(why)),
        }
    }
}
