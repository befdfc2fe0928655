//! PEM files in, DER out; the only module that uses `rustls-pemfile`.
//!
//! In scope: reading a file with a bound, and finding exactly what is wanted in it. Not in scope:
//! what the certificates and keys say.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

use super::error::{Fault, IdentityError, clean};

/// The largest PEM file that is read, in bytes. A long chain of large certificates has some 20 KB.
pub const MAX_BYTES: u64 = 1 << 20;

/// The whole file, at most [`MAX_BYTES`].
pub fn read_file(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let unreadable = |e: std::io::Error| IdentityError::new(file, Fault::Unreadable(e.to_string()));
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(IdentityError::new(file, Fault::TooLarge(MAX_BYTES)));
    }
    Ok(bytes)
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
    let found = found.first().map_or("nothing of use".to_owned(), |first| described(&first.label));
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
