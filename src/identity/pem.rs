//! PEM files in, DER out; the only module that uses `rustls-pemfile`.
//!
//! In scope: reading a file with a limit, and finding exactly what is needed. Everything in the
//! file is used, or the file is refused with the line. Not in scope: the content of certificates
//! and keys.

mod armour;

use std::io;
use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;
use zeroize::Zeroizing;

use super::error::{IdentityError, IdentityFault};
use crate::fs;

/// The largest PEM file that is read, in bytes. A long chain of large certificates has some 20 KB.
pub const MAX_BYTES: u64 = 1 << 20;

/// The whole file, at most [`MAX_BYTES`].
pub fn read_file(file: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(file, MAX_BYTES).map_err(|error| unread(file, &error))
}

/// As [`read_file`], for commands that root runs: in a directory of another user no link is
/// followed, since that user may get the file's content.
pub(crate) fn read_guarded(file: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read_guarded(file, MAX_BYTES).map_err(|error| unread(file, &error))
}

fn unread(file: &Path, error: &io::Error) -> IdentityError {
    let fault = match error.kind() {
        io::ErrorKind::FileTooLarge => {
            IdentityFault::Other(format!("is larger than {MAX_BYTES} bytes; no PEM file is"))
        }
        _ => IdentityFault::Unreadable(error.to_string()),
    };
    IdentityError::new(file, fault)
}

/// The label of an encrypted key (RFC 5958).
pub(crate) const ENCRYPTED_KEY_LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// All certificates in `bytes`, at least one, in order. Nothing but parameters may accompany them.
/// `file` is named in errors.
pub fn certificates(
    bytes: &[u8],
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let sections = sections(bytes, file)?;
    let mut certificates = Vec::new();
    let mut others = Vec::new();
    for section in &sections {
        match section.item {
            Some(Item::X509Certificate(ref der)) => certificates.push(der.clone()),
            _ => others.push(section),
        }
    }
    if certificates.is_empty() {
        return Err(wrong_kind(file, "a certificate", &others));
    }
    // A private key first: this file is one that people share.
    let telling = others.iter().find(|section| section.is_private_key());
    let telling = telling.or_else(|| others.iter().find(|section| !section.is_parameters()));
    match telling {
        Some(other) => Err(beside(file, other, "the certificate", "a certificate alone")),
        None => Ok(certificates),
    }
}

/// The only certificate request in `bytes`, DER. Anything else is an error. `file` is named in
/// errors.
pub fn request(bytes: &[u8], file: &Path) -> Result<Vec<u8>, IdentityError> {
    const EXPECTED: &str = "one certificate request";
    let sections = sections(bytes, file)?;
    let is_request = |section: &&Section| matches!(section.item, Some(Item::Csr(_)));
    let others: Vec<_> = sections.iter().filter(|section| !is_request(section)).collect();
    match (&sections[..], others.first()) {
        ([Section { item: Some(Item::Csr(der)), .. }], None) => Ok(der.to_vec()),
        (_, None) => {
            let fault =
                IdentityFault::WrongKind { expected: EXPECTED, found: "several".to_owned() };
            Err(IdentityError::new(file, fault))
        }
        (all, Some(other)) if others.len() < all.len() => {
            Err(beside(file, other, "the certificate request", EXPECTED))
        }
        _ => Err(wrong_kind(file, EXPECTED, &others)),
    }
}

/// The only private key in `bytes`: PKCS#8, PKCS#1 or SEC1, not encrypted. Certificates, requests,
/// public keys and parameters are ignored; anything else is an error. `file` is named in errors.
pub fn private_key(bytes: &[u8], file: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let sections = sections(bytes, file)?;
    let keys = sections.iter().filter(|section| section.is_private_key()).count();
    if keys == 0 {
        return Err(wrong_kind(file, "a private key", &sections.iter().collect::<Vec<_>>()));
    }
    let is_needless = |section: &Section| {
        let is_public = matches!(
            section.item,
            Some(Item::X509Certificate(_) | Item::Csr(_) | Item::SubjectPublicKeyInfo(_))
        );
        is_public || section.is_parameters()
    };
    let mut others = sections.iter().filter(|section| !section.is_private_key());
    if let Some(other) = others.find(|section| !is_needless(section)) {
        return Err(beside(file, other, "the private key", "a private key alone"));
    }
    let fault = if keys > 1 {
        IdentityFault::Other(format!("holds {keys} private keys; leave only one"))
    } else if sections.iter().any(|section| section.encrypted) {
        IdentityFault::Encrypted
    } else {
        let key = sections.into_iter().find_map(|section| match section.item {
            Some(Item::Pkcs8Key(key)) => Some(PrivateKeyDer::from(key)),
            Some(Item::Pkcs1Key(key)) => Some(PrivateKeyDer::from(key)),
            Some(Item::Sec1Key(key)) => Some(PrivateKeyDer::from(key)),
            _ => None,
        });
        match key {
            Some(key) => return Ok(key),
            // A private key in another format (OpenSSH, DSA).
            None => IdentityFault::UnusableKey,
        }
    };
    Err(IdentityError::new(file, fault))
}

/// The section of the private key that [`private_key`] has found encrypted, as PEM with nothing
/// around it. `None` if it is in OpenSSL's legacy format. `file` is named in errors.
pub(crate) fn encrypted_key(
    bytes: &[u8],
    file: &Path,
) -> Result<Option<Zeroizing<String>>, IdentityError> {
    let mut sections = sections(bytes, file)?.into_iter();
    let Some(section) = sections.find(|section| section.label == ENCRYPTED_KEY_LABEL) else {
        return Ok(None);
    };
    match std::str::from_utf8(&section.text) {
        Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
        Err(_) => {
            let why =
                format!("line {}: the section {ENCRYPTED_KEY_LABEL} is not base64", section.line);
            Err(IdentityError::new(file, IdentityFault::NotPem(why)))
        }
    }
}

/// All revocation lists in `bytes`, DER, at least one, in order. Anything else is an error. `file`
/// is named in errors.
pub fn revocation_lists(bytes: &[u8], file: &Path) -> Result<Vec<Vec<u8>>, IdentityError> {
    let sections = sections(bytes, file)?;
    let mut lists = Vec::new();
    let mut others = Vec::new();
    for section in &sections {
        match &section.item {
            Some(Item::Crl(der)) => lists.push(der.to_vec()),
            _ => others.push(section),
        }
    }
    match others.first() {
        None => Ok(lists),
        Some(_) if lists.is_empty() => Err(wrong_kind(file, "a revocation list", &others)),
        Some(other) => Err(beside(file, other, "the revocation list", "a revocation list alone")),
    }
}

/// One section, decoded.
struct Section {
    label: String,
    /// Of its BEGIN line.
    line: usize,
    text: Zeroizing<Vec<u8>>,
    encrypted: bool,
    /// `None` if the parser does not know the label or cannot read the content.
    item: Option<Item>,
}

impl Section {
    fn is_private_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    /// Whether it is redundant: parameters that the key repeats.
    fn is_parameters(&self) -> bool {
        self.label.ends_with(" PARAMETERS")
    }
}

/// Everything in the file. `rustls-pemfile` skips what it does not know, drops what follows an END
/// marker on its line and fails on encrypted sections, without saying what they were; so it gets
/// one section at a time.
fn sections(bytes: &[u8], file: &Path) -> Result<Vec<Section>, IdentityError> {
    let not_pem = |why: String| IdentityError::new(file, IdentityFault::NotPem(why));
    let sections = armour::sections(bytes).map_err(not_pem)?;
    sections.into_iter().map(|section| decoded(section).map_err(not_pem)).collect()
}

fn decoded(section: armour::Section) -> Result<Section, String> {
    let armour::Section { label, line, text } = section;
    let is_old_form =
        || text.split(|byte| *byte == b'\n').any(|line| line == b"Proc-Type: 4,ENCRYPTED");
    let encrypted = label == ENCRYPTED_KEY_LABEL || is_old_form();
    let item = if encrypted {
        None
    } else {
        let item = rustls_pemfile::read_one_from_slice(&text);
        let not_base64 = |_| format!("line {line}: the section {label} is not base64");
        item.map_err(not_base64)?.map(|(item, _)| item)
    };
    Ok(Section { label, line, text, encrypted, item })
}

/// The error for a file without what is needed.
fn wrong_kind(file: &Path, expected: &'static str, found: &[&Section]) -> IdentityError {
    // Curve parameters may precede a key and do not describe the file.
    let telling = found.iter().find(|section| section.is_private_key()).or(found.first());
    let found = telling.map_or("nothing of use".to_owned(), |section| described(&section.label));
    IdentityError::new(file, IdentityFault::WrongKind { expected, found })
}

/// The error for a file with more than what is needed.
fn beside(file: &Path, found: &Section, what: &str, expected: &'static str) -> IdentityError {
    let found = format!("{} beside {what} (line {})", described(&found.label), found.line);
    IdentityError::new(file, IdentityFault::WrongKind { expected, found })
}

/// A label in words.
fn described(label: &str) -> String {
    match label {
        "CERTIFICATE" => "a certificate".to_owned(),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => "a certificate request".to_owned(),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key".to_owned(),
        "X509 CRL" => "a revocation list".to_owned(),
        _ if label.ends_with("PRIVATE KEY") => "a private key".to_owned(),
        _ => format!("{label:?}"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn key_and_certificate() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["a".to_owned()]).unwrap().self_signed(&key);
        (key.serialize_pem(), certificate.unwrap().pem())
    }

    fn fault(result: Result<impl Sized, IdentityError>) -> IdentityFault {
        result.err().expect("a fault").fault
    }

    #[test]
    fn text_around_sections_line_ends_and_a_byte_order_mark_are_of_no_account() {
        let (key, certificate) = key_and_certificate();
        let file = Path::new("f");
        for text in [
            format!("\u{feff}{certificate}"),
            format!("Certificate:\n    Data:\n{certificate}the end"),
            certificate.replace('\n', "\r\n"),
            format!("{certificate}\n\n{certificate}"),
        ] {
            assert!(!certificates(text.as_bytes(), file).unwrap().is_empty(), "{text}");
        }
        private_key(format!("{certificate}{key}").as_bytes(), file).unwrap();
    }

    #[test]
    fn what_is_there_instead_is_said() {
        let (key, certificate) = key_and_certificate();
        let relabelled = |label: &str| key.replace("PRIVATE KEY", label);
        let file = Path::new("f");
        for (label, words) in [
            ("DSA PRIVATE KEY", "holds a private key where a certificate is needed"),
            ("ENCRYPTED PRIVATE KEY", "holds a private key where a certificate is needed"),
            ("PUBLIC KEY", "holds a public key where a certificate is needed"),
            ("PKCS7", "holds \"PKCS7\" where a certificate is needed"),
            ("X509 CRL", "holds a revocation list where a certificate is needed"),
        ] {
            let fault = fault(certificates(relabelled(label).as_bytes(), file)).to_string();
            assert_eq!(fault, words);
        }
        let openssh = relabelled("OPENSSH PRIVATE KEY");
        assert_eq!(fault(private_key(openssh.as_bytes(), file)), IdentityFault::UnusableKey);
        let two = format!("{key}{certificate}{key}");
        let fault = fault(private_key(two.as_bytes(), file)).to_string();
        assert_eq!(fault, "holds 2 private keys; leave only one");
    }

    #[test]
    fn a_label_stays_short_and_clean_in_a_message() {
        let text = format!("-----BEGIN \u{1b}[2J{}-----\nAAAA\n", "é".repeat(5000));
        let message = certificates(text.as_bytes(), Path::new("f")).unwrap_err().to_string();
        assert!(message.chars().count() < 300, "{message}");
        assert!(!message.chars().any(char::is_control));
    }

    #[test]
    fn random_cut_and_changed_bytes_are_an_error_or_fine_but_never_a_panic() {
        let (key, certificate) = key_and_certificate();
        let whole = format!("{certificate}{key}").into_bytes();
        let file = Path::new("f");
        let try_both = |bytes: &[u8]| {
            let key = private_key(bytes, file).map(|_| ());
            let certificates = certificates(bytes, file).map(|_| ());
            for error in [key, certificates].into_iter().filter_map(Result::err) {
                assert!(!error.to_string().chars().any(char::is_control), "{error}");
            }
        };
        for end in 0..whole.len() {
            try_both(&whole[..end]);
            try_both(&whole[end..]);
        }
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..8) {
                bytes[random.usize(0..whole.len())] = random.u8(..);
            }
            try_both(&bytes);
            let noise: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            try_both(&noise);
            try_both(&[b"-----BEGIN ", noise.as_slice()].concat());
        }
    }
}
