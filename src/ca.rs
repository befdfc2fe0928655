//! A small CA: makes keys and certificates that nodes accept, renews and revokes them.
//!
//! In scope: a CA in one directory. Not in scope: command lines, and what nodes do with a
//! revocation list.
//!
//! The directory holds `ca.key.pem` and `ca.crt.pem`; `NAME.key.pem` and `NAME.crt.pem` for each
//! identity made here; `ca.crl.pem`, the revocation list, once there is one; `issued/SERIAL.crt.pem`,
//! a copy of each certificate ever signed; and `.lock`, held while something is changed. Keys are
//! ECDSA P-256 in PKCS#8, mode 0600. No key is ever overwritten.

mod authority;
mod crl;
mod fault;
mod files;
mod init;
mod issue;
mod key;
mod name;
mod order;
mod passphrase;
mod records;
mod request;
mod revoke;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

pub use crl::{DEFAULT_CRL_DAYS, Reason, Revoked};
pub use fault::CaFault;
pub use init::{DEFAULT_CA_DAYS, NewCa};
pub use issue::{Made, Requested, Signed, request};
pub use name::{CaName, MAX_NAME, Name, NameError};
pub use order::{DEFAULT_DAYS, MAX_DAYS, Order};
pub use passphrase::{MAX_PASSPHRASE, Passphrase};
pub use revoke::{Listed, Revocation, Target};
pub use verify::Verdict;

use crate::identity::error::{Fault, IdentityError};
use authority::Authority;

const CA_KEY: &str = "ca.key.pem";
const CA_CRT: &str = "ca.crt.pem";
const CRL: &str = "ca.crl.pem";

/// The CA in a directory.
///
/// ```
/// use restpipe::ca::{self, Ca, Order};
/// use restpipe::event::peer::Role;
/// use rustls::pki_types::UnixTime;
///
/// let dir = tempfile::tempdir()?;
/// let now = UnixTime::now();
/// ca::init(dir.path(), 3650, now)?;
/// let ca = Ca::new(dir.path());
/// let order = Order { name: "web1".parse()?, role: Role::Client, alternatives: vec![], days: 90 };
/// let made = ca.issue(&order, now)?;
/// assert_eq!(made.certificate.name, "web1");
/// assert_eq!(ca.verify(&made.crt, Some(Role::Client), now)?.certificate, made.certificate);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Ca<'a> {
    dir: &'a Path,
    ask: &'a dyn Fn(&Path) -> Result<Passphrase, IdentityError>,
}

impl<'a> Ca<'a> {
    /// The CA in `dir`, which need not exist yet. An encrypted key is an error.
    pub const fn new(dir: &'a Path) -> Self {
        Self { dir, ask: &no_passphrase }
    }

    /// The same CA, whose key is opened with the passphrase that `ask` gives. It is called with
    /// the key's file, and only where the key is needed and encrypted.
    pub const fn with_passphrase(
        self,
        ask: &'a dyn Fn(&Path) -> Result<Passphrase, IdentityError>,
    ) -> Self {
        Self { ask, ..self }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn load(&self, now: UnixTime) -> Result<Authority, IdentityError> {
        Authority::load(self.dir, self.ask, now)
    }
}

impl fmt::Debug for Ca<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Makes a CA in `dir` that lasts `days` days, with a name of its own and a key that is not
/// encrypted: [`Ca::init`] in its simplest form.
pub fn init(dir: &Path, days: u32, now: UnixTime) -> Result<Made, IdentityError> {
    Ca::new(dir).init(&NewCa { days, ..NewCa::default() }, now)
}

/// Makes an identity signed by the CA in `dir`, whose key is not encrypted: [`Ca::issue`].
pub fn issue(dir: &Path, order: &Order, now: UnixTime) -> Result<Made, IdentityError> {
    Ca::new(dir).issue(order, now)
}

fn no_passphrase(key: &Path) -> Result<Passphrase, IdentityError> {
    let fault = CaFault::NoPassphrase("nobody can be asked".to_owned());
    Err(IdentityError::new(key, Fault::from(fault)))
}

fn moment(time: UnixTime) -> OffsetDateTime {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(time::PrimitiveDateTime::MAX.assume_utc())
}

/// For tests: `message` with one to three bytes changed, signed by `key`, in the form that
/// certificates, requests and revocation lists share.
#[cfg(test)]
fn resigned(message: &[u8], key: &impl rcgen::SigningKey, random: &mut fastrand::Rng) -> Vec<u8> {
    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], content].concat()
    }
    let mut message = message.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..message.len());
        message[at] = random.u8(..);
    }
    // ecdsa-with-SHA256 (RFC 5758 section 3.2).
    let kind = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let signature = tagged(3, &[&[0], &key.sign(&message).unwrap()[..]].concat());
    tagged(0x30, &[&message, &kind[..], &signature].concat())
}
