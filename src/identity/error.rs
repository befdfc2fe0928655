//! Why an identity cannot be used: one fault, one file, one line.
//!
//! In scope: the faults and their messages. Not in scope: finding them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

use super::chain::ChainFault;
use crate::event::peer::Role;

/// A fault and the file it is in. Displays as one line that begins with the file's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError {
    /// The file to look at.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

impl IdentityError {
    pub(crate) fn new(file: &Path, fault: Fault) -> Self {
        Self { file: file.to_owned(), fault }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", shown(&self.file), self.fault)
    }
}

impl std::error::Error for IdentityError {}

/// What can be wrong with a file of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file cannot be read; the system's words.
    Unreadable(String),
    /// The file cannot be written; the system's words.
    Unwritable(String),
    /// The file is there already, and nothing is overwritten.
    Exists,
    /// There is no CA in this directory yet.
    NoCaHere,
    /// What only a CA meets; in its words.
    Ca(String),
    /// No CA was given, and there is none in place.
    NoCaInPlace,
    /// The file is larger than this number of bytes.
    TooLarge(u64),
    /// There is no PEM in the file; what there is, or what breaks it.
    NotPem(String),
    /// The file holds PEM of another kind.
    WrongKind {
        /// What is needed.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The private key is encrypted, and a node starts without anybody there to type a passphrase.
    Encrypted,
    /// There is more than one private key; how many.
    ManyKeys(usize),
    /// The private key is damaged or of a kind that TLS 1.3 cannot use.
    UnusableKey,
    /// The private key does not belong to the certificate in this file.
    KeyMismatch(PathBuf),
    /// The certificate cannot be understood.
    Malformed(String),
    /// The certificate has an X.509 version before 3.
    OldVersion(u32),
    /// The certificate is signed with a hash that is broken; its name.
    WeakSignature(&'static str),
    /// An RSA key is too short; its bits.
    WeakRsa(usize),
    /// The certificate ended.
    Expired(Date),
    /// The certificate begins later.
    NotYetValid(Date),
    /// The certificate comes with a chain that is not looked at.
    Chain(ChainFault),
    /// The certificate is not signed by a CA in this file.
    NotSignedBy(PathBuf),
    /// The certificate's extended key usage forbids this role.
    WrongUsage(Role),
    /// A server's certificate has no subject alternative name.
    NoSubjectAltName,
    /// The certificate has no name that a peer can be known by.
    UnusableName(NameFault),
    /// A CA's own certificate is used as a node's.
    CaAsLeaf,
    /// There is no CA certificate in a file of CA certificates, or one that is none beside them;
    /// the subject of the certificate that is there instead.
    NotCa(String),
    /// The certificate was revoked by its CA.
    Revoked,
    /// A server's certificate is for other names than the one it was looked for under.
    WrongHost {
        /// The name that was looked for.
        expected: String,
        /// The names it is for.
        names: Vec<String>,
    },
    /// The revocation list cannot be understood.
    MalformedCrl(String),
    /// The revocation list is from an issuer, given here, that is not among the CAs in this file.
    CrlOfAnother(String, PathBuf),
    /// The revocation list says that it is from this issuer, who did not sign it.
    CrlForged(String),
    /// The revocation list was there when the node read it before.
    CrlGone,
    /// The check of the certificate failed in a rarer way.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "cannot be read: {}", clean(why)),
            Self::Unwritable(why) => write!(f, "cannot be written: {}", clean(why)),
            Self::Exists => f.write_str("is there already and stays as it is; nothing was made"),
            Self::NoCaHere => f.write_str("there is no CA here; make one first (rp_ca init)"),
            Self::Ca(why) => f.write_str(why),
            Self::NoCaInPlace => {
                f.write_str("no CA certificate is in place; give one as the third file")
            }
            Self::TooLarge(limit) => write!(f, "is larger than {limit} bytes; no PEM file is"),
            Self::NotPem(why) => write!(f, "is not PEM: {}", clean(why)),
            Self::WrongKind { expected, found } => {
                write!(f, "holds {found} where {expected} is needed")
            }
            Self::Encrypted => f.write_str(
                "the private key is encrypted; decrypt it first \
                 (openssl pkey -in ENCRYPTED -out PLAIN)",
            ),
            Self::ManyKeys(count) => write!(f, "holds {count} private keys; leave only one"),
            Self::UnusableKey => f.write_str(
                "the private key is damaged or of an unknown kind; usable are RSA of 2048 to 8192 \
                 bits, ECDSA on P-256, P-384 or P-521, and Ed25519",
            ),
            Self::KeyMismatch(crt) => {
                write!(f, "the private key does not belong to the certificate in {}", shown(crt))
            }
            Self::Malformed(why) => write!(f, "the certificate cannot be read: {}", clean(why)),
            Self::OldVersion(version) => {
                write!(f, "is an X.509 version {version} certificate; version 3 is needed")
            }
            Self::WeakSignature(hash) => {
                write!(f, "the certificate is signed with {hash}; SHA-256 or better is needed")
            }
            Self::WeakRsa(bits) => {
                write!(f, "the certificate has an RSA key of {bits} bits; at least 2048 are needed")
            }
            Self::Expired(date) => write!(f, "the certificate expired on {date}"),
            Self::NotYetValid(date) => write!(f, "the certificate is not valid before {date}"),
            Self::Chain(fault) => fault.fmt(f),
            Self::NotSignedBy(ca) => {
                write!(f, "the certificate is not signed by a CA in {}", shown(ca))
            }
            Self::WrongUsage(role) => write!(
                f,
                "the certificate's extended key usage forbids its use as a {}; {} is needed",
                role.as_str(),
                match role {
                    Role::Server => "serverAuth",
                    Role::Client => "clientAuth",
                }
            ),
            Self::NoSubjectAltName => f.write_str(
                "the server certificate has no subject alternative name (a DNS name or an IP \
                 address), so no client can check it",
            ),
            Self::UnusableName(fault) => fault.fmt(f),
            Self::CaAsLeaf => f.write_str(
                "is a CA's own certificate; a node needs one of its own that the CA has signed",
            ),
            Self::NotCa(subject) => write!(
                f,
                "the certificate of {subject} is not a CA certificate; only those belong here"
            ),
            Self::Revoked => f.write_str("the certificate is revoked"),
            Self::WrongHost { expected, names } => write!(
                f,
                "the certificate is for {}, not for {expected}; RP_CLIENT_SERVER_NAME sets the \
                 name to expect",
                clean(&names.join(", "))
            ),
            Self::MalformedCrl(why) => {
                write!(f, "the revocation list cannot be read: {}", clean(why))
            }
            Self::CrlOfAnother(issuer, ca) => write!(
                f,
                "the revocation list is from {}, which is not a CA in {}",
                clean(issuer),
                shown(ca)
            ),
            Self::CrlForged(issuer) => write!(
                f,
                "the revocation list names {} as its issuer, whose key has not signed it",
                clean(issuer)
            ),
            Self::CrlGone => f.write_str(
                "is gone; what it revoked stays revoked until this node is started again",
            ),
            Self::Refused(why) => write!(f, "the certificate is refused: {}", clean(why)),
        }
    }
}

/// Why a certificate does not name its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// There is neither a subject alternative DNS name nor a common name.
    Missing,
    /// The name is longer than 255 characters.
    TooLong,
    /// The name has control characters, or ones that reorder or hide others.
    Control,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => {
                "the certificate has no name: neither a subject alternative DNS name nor a common \
                 name"
            }
            Self::TooLong => "the name in the certificate is longer than 255 characters",
            Self::Control => "the name in the certificate has control characters",
        })
    }
}

/// A moment as people read it: `2026-11-20 08:30:00 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(OffsetDateTime);

impl Date {
    /// As programs read it (RFC 3339): `2026-11-20T08:30:00Z`.
    pub fn rfc3339(self) -> String {
        self.to_string().replacen(' ', "T", 1).replace(" UTC", "Z")
    }

    /// As seconds since 1970; a moment before that is 1970.
    pub fn to_unix(self) -> UnixTime {
        let seconds = u64::try_from(self.0.unix_timestamp()).unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }
}

impl From<OffsetDateTime> for Date {
    fn from(time: OffsetDateTime) -> Self {
        Self(time)
    }
}

impl From<UnixTime> for Date {
    fn from(time: UnixTime) -> Self {
        // A certificate's last possible year is 9999, which the type holds.
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Self(
            OffsetDateTime::from_unix_timestamp(seconds)
                .unwrap_or(time::PrimitiveDateTime::MAX.assume_utc()),
        )
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0;
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        )
    }
}

/// A path that keeps to its line.
pub(crate) fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// `text` with its control characters escaped.
pub(crate) fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, c| {
        if c.is_control() {
            clean.extend(c.escape_default())
        } else {
            clean.push(c)
        }
        clean
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_readable_up_to_the_last_one() {
        let date = |seconds| Date::from(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(date(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(1_795_158_476).to_string(), "2026-11-20 07:07:56 UTC");
        assert_eq!(date(u64::MAX).to_string(), "9999-12-31 23:59:59 UTC");
    }

    #[test]
    fn a_message_is_one_line_whatever_the_file_is_called() {
        let error = IdentityError::new(Path::new("a\nb\u{1b}[2J.pem"), Fault::Encrypted);
        assert!(error.to_string().starts_with("a\\nb\\u{1b}[2J.pem: the private key is encrypted"));
        assert!(!error.to_string().chars().any(char::is_control));
    }
}
