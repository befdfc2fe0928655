//! PEM files in, DER out; the only module that uses `rustls-pemfile`.
//!
//! In scope: reading a file with a bound, and finding exactly what is wanted in it. Not in scope:
//! what the certificates and keys say.

use std::io;
use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

use super::error::{Fault, IdentityError, clean};
use crate::fs;

/// The largest PEM file that is read, in bytes. A long chain of large certificates has some 20 KB.
pub const MAX_BYTES: u64 = 1 << 20;

/// The whole file, at most [`MAX_BYTES`].
pub fn read_file(file: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(file, MAX_BYTES).map_err(|error| unread(file, &error))
}

/// As [`read_file`], for commands that root runs: in a directory of another user no link is
/// followed, since what comes of the file may end up in that user's hands.
pub(crate) fn read_guarded(file: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read_guarded(file, MAX_BYTES).map_err(|error| unread(file, &error))
}

fn unread(file: &Path, error: &io::Error) -> IdentityError {
    let fault = match error.kind() {
        io::ErrorKind::FileTooLarge => Fault::TooLarge(MAX_BYTES),
        _ => Fault::Unreadable(error.to_string()),
    };
    IdentityError::new(file, fault)
}

/// All certificates in `bytes`, at least one, in their order. `file` is named in errors.
///
/// A private key beside them is an error: this file is one that people pass on.
pub fn certificates(
    bytes: &[u8],
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    const EXPECTED: &str = "a certificate";
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
        return Err(wrong_kind(file, EXPECTED, &others));
    }
    if let Some(key) = others.iter().find(|section| section.is_private_key()) {
        let found = format!("{} beside the certificate", described(&key.label));
        let fault = Fault::WrongKind { expected: "a certificate alone", found };
        return Err(IdentityError::new(file, fault));
    }
    Ok(certificates)
}

/// The one certificate request in `bytes`, DER. `file` is named in errors.
pub fn request(bytes: &[u8], file: &Path) -> Result<Vec<u8>, IdentityError> {
    let sections = sections(bytes, file)?;
    match &sections[..] {
        [Section { item: Some(Item::Csr(der)), .. }] => Ok(der.to_vec()),
        _ => {
            const EXPECTED: &str = "one certificate request";
            // What is one of several is named only where nothing else is there.
            let is_request = |section: &&Section| matches!(section.item, Some(Item::Csr(_)));
            let others: Vec<_> = sections.iter().filter(|section| !is_request(section)).collect();
            if others.is_empty() {
                let found = "several".to_owned();
                return Err(IdentityError::new(
                    file,
                    Fault::WrongKind { expected: EXPECTED, found },
                ));
            }
            Err(wrong_kind(file, EXPECTED, &others))
        }
    }
}

/// The one private key in `bytes`: PKCS#8, PKCS#1 or SEC1, not encrypted. Certificates and curve
/// parameters beside it are passed over. `file` is named in errors.
pub fn private_key(bytes: &[u8], file: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let sections = sections(bytes, file)?;
    let fault = match sections.iter().filter(|section| section.is_private_key()).count() {
        0 => {
            return Err(wrong_kind(file, "a private key", &sections.iter().collect::<Vec<_>>()));
        }
        1 if sections.iter().any(|section| section.encrypted) => Fault::Encrypted,
        1 => {
            let key = sections.into_iter().find_map(|section| match section.item {
                Some(Item::Pkcs8Key(key)) => Some(PrivateKeyDer::from(key)),
                Some(Item::Pkcs1Key(key)) => Some(PrivateKeyDer::from(key)),
                Some(Item::Sec1Key(key)) => Some(PrivateKeyDer::from(key)),
                _ => None,
            });
            match key {
                Some(key) => return Ok(key),
                // Private, but of a kind with a format of its own (OpenSSH's, DSA's).
                None => Fault::UnusableKey,
            }
        }
        count => Fault::ManyKeys(count),
    };
    Err(IdentityError::new(file, fault))
}

/// All revocation lists in `bytes`, DER, at least one, in their order, and nothing else. `file` is
/// named in errors.
pub fn revocation_lists(bytes: &[u8], file: &Path) -> Result<Vec<Vec<u8>>, IdentityError> {
    let sections = sections(bytes, file)?;
    let mut lists = Vec::new();
    for section in &sections {
        match &section.item {
            Some(Item::Crl(der)) => lists.push(der.to_vec()),
            _ => return Err(wrong_kind(file, "a revocation list", &[section])),
        }
    }
    Ok(lists)
}

/// One `-----BEGIN LABEL-----` section.
struct Section {
    label: String,
    encrypted: bool,
    /// None where the parser does not know the label, or cannot know the content.
    item: Option<Item>,
}

impl Section {
    fn is_private_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }
}

/// Everything in the file. `rustls-pemfile` passes over labels it does not know and fails on
/// encrypted sections, both in silence about what they were; so sections are cut apart here first.
fn sections(bytes: &[u8], file: &Path) -> Result<Vec<Section>, IdentityError> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let not_pem = |why: &str| IdentityError::new(file, Fault::NotPem(why.to_owned()));
    // Editors on Windows put a byte order mark before the first line.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);

    let mut sections = Vec::new();
    let mut rest = bytes;
    while let Some(start) = find_line(rest, BEGIN) {
        let after = &rest[start + BEGIN.len()..];
        let end = find_line(after, BEGIN).unwrap_or(after.len());
        let body = &rest[start..start + BEGIN.len() + end];
        sections.push(section(body, file)?);
        rest = &after[end..];
    }
    if !sections.is_empty() {
        return Ok(sections);
    }
    Err(not_pem(match bytes {
        [] => "the file is empty",
        [0x30, 0x80..=0x84, ..] => "it looks like DER, the binary form; convert it with openssl",
        _ => "there is no -----BEGIN line",
    }))
}

/// One section from its `-----BEGIN` to where the next begins.
fn section(body: &[u8], file: &Path) -> Result<Section, IdentityError> {
    let first_line = body.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let label = String::from_utf8_lossy(first_line);
    let label = label.trim_start_matches("-----BEGIN ").trim_end().trim_end_matches('-');
    let label = clean(&label.chars().take(64).collect::<String>());

    let encrypted =
        label == "ENCRYPTED PRIVATE KEY" || find_line(body, b"Proc-Type: 4,ENCRYPTED").is_some();
    if encrypted {
        return Ok(Section { label, encrypted, item: None });
    }
    let item = match rustls_pemfile::read_one_from_slice(body) {
        Ok(item) => item.map(|(item, _)| item),
        Err(error) => {
            let why = match error {
                rustls_pemfile::Error::MissingSectionEnd { .. } => {
                    format!("the section {label} has no end line")
                }
                rustls_pemfile::Error::IllegalSectionStart { .. } => {
                    format!("the line that begins {label} is damaged")
                }
                rustls_pemfile::Error::Base64Decode(_) => {
                    format!("the section {label} is not base64")
                }
            };
            return Err(IdentityError::new(file, Fault::NotPem(why)));
        }
    };
    Ok(Section { label, encrypted, item })
}

/// Where `pattern` stands at the beginning of a line.
fn find_line(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .enumerate()
        .filter(|(_, window)| *window == pattern)
        .map(|(at, _)| at)
        .find(|at| *at == 0 || matches!(bytes[at - 1], b'\n' | b'\r'))
}

fn wrong_kind(file: &Path, expected: &'static str, found: &[&Section]) -> IdentityError {
    // Curve parameters may stand before a key, and are not what the file is for.
    let telling = found.iter().find(|section| section.is_private_key()).or(found.first());
    let found = telling.map_or("nothing of use".to_owned(), |section| described(&section.label));
    IdentityError::new(file, Fault::WrongKind { expected, found })
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

    fn fault(result: Result<impl Sized, IdentityError>) -> Fault {
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
        assert_eq!(fault(private_key(openssh.as_bytes(), file)), Fault::UnusableKey);
        let two = format!("{key}{certificate}{key}");
        assert_eq!(fault(private_key(two.as_bytes(), file)), Fault::ManyKeys(2));
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
