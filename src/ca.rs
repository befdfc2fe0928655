//! A small CA: creates, renews and revokes keys and certificates for nodes.
//!
//! In scope: a CA in one directory. Not in scope: command lines, and what nodes do with a
//! revocation list.
//!
//! The directory holds `ca.key.pem` and `ca.crt.pem`; `NAME.key.pem` and `NAME.crt.pem` for each
//! identity made here; `ca.crl.pem`, the revocation list, once there is one;
//! `issued/SERIAL.crt.pem`, a copy of each signed certificate; and `.lock`, held during changes.
//! Keys are ECDSA P-256 in PKCS#8, mode 0600. Keys are never overwritten.

mod authority;
mod crl;
mod directory;
mod error;
mod files;
mod init;
mod issue;
mod key;
mod layout;
mod name;
mod order;
mod passphrase;
mod records;
mod request;
mod revoke;
mod verify;

use std::path::Path;

use rustls::pki_types::UnixTime;

pub use crl::{DEFAULT_CRL_DAYS, Reason, Revoked};
pub use directory::Ca;
pub use error::{CaError, CaFault};
pub use init::{DEFAULT_CA_DAYS, NewCa};
pub use issue::{CreatedRequest, IssuedIdentity, SignedCertificate, request};
pub use name::{CaName, MAX_NAME, Name, NameError};
pub use order::{DEFAULT_DAYS, MAX_DAYS, Order};
pub use passphrase::{MAX_PASSPHRASE, Passphrase};
pub use revoke::{IssuedCertificate, Revocation, RevocationTarget};
pub use verify::Verdict;

/// Creates a CA in `dir`, valid for `days` days, with a generated name and an unencrypted key: the
/// simplest form of [`Ca::init`].
pub fn init(dir: &Path, days: u32, now: UnixTime) -> Result<IssuedIdentity, CaError> {
    Ca::new(dir).init(&NewCa { days, ..NewCa::default() }, now)
}

/// Issues an identity signed by the CA in `dir`, whose key is unencrypted: [`Ca::issue`].
pub fn issue(dir: &Path, order: &Order, now: UnixTime) -> Result<IssuedIdentity, CaError> {
    Ca::new(dir).issue(order, now)
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
