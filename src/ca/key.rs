//! A CA's private key: in a file, plain or encrypted, and in memory.
//!
//! In scope: PKCS#8 (RFC 5958) and its encryption by a passphrase (PBES2, RFC 8018). Not in scope:
//! what the key signs.

use std::num::NonZeroU32;
use std::path::Path;

use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{pbkdf2, rand};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Pbkdf2Prf};
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

use super::error::{CaError, CaFault};
use super::passphrase::Passphrase;
use crate::identity::error::IdentityFault;
use crate::identity::pem;

/// Rounds of PBKDF2 with SHA-256, as OWASP recommends since 2023. A quarter of a second.
const PBKDF2_ROUNDS: u32 = 600_000;

/// The maximum for a key from elsewhere: some seconds.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

/// A key that is wiped from memory when dropped, as far as the underlying crates allow.
pub(super) struct CaKey(KeyPair);

impl CaKey {
    /// A new key, ECDSA P-256.
    pub fn generate() -> Result<Self, CaFault> {
        KeyPair::generate().map(Self).map_err(CaFault::unsigned)
    }

    /// Reads the key in `file`. Calls `ask` for the passphrase only if it is encrypted.
    pub fn read(
        file: &Path,
        ask: &dyn Fn(&Path) -> Result<Passphrase, CaError>,
    ) -> Result<Self, CaError> {
        let bytes = Zeroizing::new(pem::read_guarded(file)?);
        let mut key = match pem::private_key(&bytes, file) {
            Ok(key) => key,
            Err(error) if error.fault == IdentityFault::Encrypted => {
                let encrypted = Encrypted::read(&bytes, file)?;
                let plain = encrypted.open(&ask(file)?);
                let plain = plain.map_err(|fault| CaError::new(file, fault))?;
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(plain.to_vec()))
            }
            Err(error) => return Err(error.into()),
        };
        let pair =
            KeyPair::try_from(&key).map_err(|_| CaError::new(file, IdentityFault::UnusableKey));
        key.zeroize();
        pair.map(Self)
    }

    /// PKCS#8 as PEM, encrypted if there is a passphrase.
    pub fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, CaFault> {
        match passphrase {
            None => Ok(Zeroizing::new(self.0.serialize_pem())),
            Some(passphrase) => encrypt(self.0.serialized_der(), passphrase),
        }
    }

    /// As in a certificate's bit string.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key_raw()
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl Drop for CaKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn encrypt(plain: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<String>, CaFault> {
    let failed = |what: &str| CaFault::Unsigned(format!("{what} failed"));
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    rand::fill(&mut salt)
        .and_then(|()| rand::fill(&mut iv))
        .map_err(|_| failed("the system's random generator"))?;
    let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, &salt, iv)
        .map_err(|_| failed("the encryption's parameters"))?;

    let mut key = Zeroizing::new([0; 32]);
    let rounds = NonZeroU32::new(PBKDF2_ROUNDS).ok_or_else(|| failed("the number of rounds"))?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, passphrase.as_bytes(), &mut *key);
    // With room for the padding: reallocation would leave a copy of the plain key behind.
    let mut data = Zeroizing::new(Vec::with_capacity(plain.len() + 16));
    data.extend_from_slice(plain);
    UnboundCipherKey::new(&AES_256, &*key)
        .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
        .and_then(|cipher| {
            let context = EncryptionContext::Iv128(FixedLength::from(&iv));
            cipher.less_safe_encrypt(&mut *data, context)
        })
        .map_err(|_| failed("the encryption"))?;

    let encode = || {
        let encrypted_data = OctetStringRef::new(&data)?;
        let encryption_algorithm = EncryptionScheme::from(parameters);
        SecretDocument::encode_msg(&EncryptedPrivateKeyInfoRef {
            encryption_algorithm,
            encrypted_data,
        })?
        .to_pem(pem::ENCRYPTED_KEY_LABEL, LineEnding::LF)
    };
    encode().map_err(|_| failed("the encoding"))
}

fn unread_encryption(how: &str) -> CaFault {
    CaFault::Other(format!(
        "the key is encrypted with {how}, which is not read; convert it \
         (openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW)"
    ))
}

const WRONG_PASSPHRASE: &str = "the passphrase does not open this key";

/// A parsed encrypted key.
struct Encrypted {
    rounds: NonZeroU32,
    salt: pbes2::Salt,
    hash: pbkdf2::Algorithm,
    cipher: &'static aws_lc_rs::cipher::Algorithm,
    key_bytes: usize,
    iv: [u8; 16],
    data: Vec<u8>,
}

impl Encrypted {
    /// Reads the one encrypted key in `bytes`. `file` is named in errors.
    fn read(bytes: &[u8], file: &Path) -> Result<Self, CaError> {
        let parsed = match pem::encrypted_key(bytes, file)? {
            Some(text) => Self::parse(&text),
            None => Err(unread_encryption("OpenSSL's old PEM encryption")),
        };
        parsed.map_err(|fault| CaError::new(file, fault))
    }

    /// Reads the form that this program and openssl write: PBES2 with PBKDF2 and AES-CBC.
    fn parse(pem: &str) -> Result<Self, CaFault> {
        let unread = unread_encryption;
        let (_, document) =
            SecretDocument::from_pem(pem).map_err(|e| IdentityFault::NotPem(e.to_string()))?;
        let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
            .map_err(|_| unread("a scheme that is unknown, or it is damaged"))?;

        let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
            return Err(unread("PBES1"));
        };
        let pbes2::Kdf::Pbkdf2(kdf) = &parameters.kdf else {
            return Err(unread("a key from scrypt"));
        };
        let rounds = NonZeroU32::new(kdf.iteration_count)
            .filter(|rounds| rounds.get() <= MAX_PBKDF2_ROUNDS)
            .ok_or_else(|| unread("a number of rounds outside 1 to 10000000"))?;
        let hash = match kdf.prf {
            Pbkdf2Prf::HmacWithSha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
            Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(unread("a hash that is not in use")),
        };
        let (cipher, key_bytes, iv) = match parameters.encryption {
            pbes2::EncryptionScheme::Aes128Cbc { iv } => (&AES_128, 16, iv),
            pbes2::EncryptionScheme::Aes256Cbc { iv } => (&AES_256, 32, iv),
            _ => return Err(unread("a cipher other than AES-128 and AES-256 in CBC mode")),
        };
        if kdf.key_length.is_some_and(|length| usize::from(length) != key_bytes) {
            return Err(unread("a key of another length than its cipher's"));
        }
        let data = info.encrypted_data.as_bytes().to_vec();
        Ok(Self { rounds, salt: kdf.salt, hash, cipher, key_bytes, iv, data })
    }

    /// The plain key, PKCS#8 DER.
    fn open(self, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, CaFault> {
        let wrong = || CaFault::other(WRONG_PASSPHRASE);
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..self.key_bytes];
        pbkdf2::derive(self.hash, self.rounds, self.salt.as_bytes(), passphrase.as_bytes(), key);
        let mut data = Zeroizing::new(self.data);
        let context = DecryptionContext::Iv128(FixedLength::from(&self.iv));
        let plain = UnboundCipherKey::new(self.cipher, key)
            .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
            .and_then(|cipher| cipher.decrypt(&mut data, context).map(|plain| plain.len()))
            .map_err(|_| wrong())?;
        data.truncate(plain);
        // One wrong passphrase in 256 yields valid padding.
        if KeyPair::try_from(&PrivatePkcs8KeyDer::from(&data[..])).is_err() {
            return Err(wrong());
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    fn encrypted() -> (CaKey, Vec<u8>) {
        let key = CaKey::generate().unwrap();
        let pem = key.to_pem(Some(&passphrase("open sesame"))).unwrap();
        (key, pem.as_bytes().to_vec())
    }

    fn open(pem: &[u8], with: &str) -> Result<Vec<u8>, CaFault> {
        let encrypted = Encrypted::read(pem, Path::new("f")).map_err(|error| error.fault)?;
        encrypted.open(&passphrase(with)).map(|plain| plain.to_vec())
    }

    #[test]
    fn what_was_encrypted_opens_with_its_passphrase_only() {
        let (key, pem) = encrypted();
        assert!(pem.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        assert_eq!(open(&pem, "open sesame").unwrap(), key.0.serialized_der());
        for wrong in ["open sesam", "open sesame ", "x"] {
            assert_eq!(open(&pem, wrong), Err(CaFault::other(WRONG_PASSPHRASE)));
        }
        assert_ne!(pem, key.to_pem(Some(&passphrase("open sesame"))).unwrap().as_bytes(), "salt");
    }

    #[test]
    fn changed_bytes_are_an_error_and_never_a_panic_or_an_endless_wait() {
        let (_, pem) = encrypted();
        let mut random = fastrand::Rng::with_seed(8);
        let mut parsed = 0;
        for round in 0..20_000 {
            let mut bytes = pem.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] =
                    if round % 2 == 0 { random.alphanumeric() as u8 } else { random.u8(..) };
            }
            if round % 3 == 0 {
                bytes.truncate(random.usize(..bytes.len()));
            }
            match Encrypted::read(&bytes, Path::new("f")) {
                Ok(encrypted) => {
                    assert!(encrypted.rounds.get() <= MAX_PBKDF2_ROUNDS);
                    parsed += 1;
                    // Few rounds, for speed.
                    let _ =
                        Encrypted { rounds: NonZeroU32::MIN, ..encrypted }.open(&passphrase("x"));
                }
                Err(error) => {
                    let line = error.to_string();
                    assert!(!line.chars().any(char::is_control), "{line}");
                }
            }
        }
        assert!(parsed > 1000, "{parsed}");
    }
}
