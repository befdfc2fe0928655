//! Keys, ids and nonces: unguessable text.

use aws_lc_rs::rand;
use base64ct::{Base64, Encoding};

/// The length of a key or an id, in characters.
pub const LENGTH: usize = 64;

/// [`LENGTH`] random letters and digits: a WebRoute id or a key. 381 bits.
pub fn text() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    /// Values above this would make some characters more frequent than others.
    const FAIR: u8 = (256 / ALPHABET.len() * ALPHABET.len() - 1) as u8;
    let mut text = String::with_capacity(LENGTH);
    while text.len() < LENGTH {
        for byte in bytes::<LENGTH>() {
            if byte <= FAIR && text.len() < LENGTH {
                text.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            }
        }
    }
    text
}

/// The `Sec-WebSocket-Key` of a new WebSocket (RFC 6455, section 4.1).
pub fn nonce() -> String {
    Base64::encode_string(&bytes::<16>())
}

fn bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    // On Linux this fails only if the kernel has no randomness; nothing here can work without.
    rand::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn texts_are_letters_and_digits_and_differ() {
        let texts: HashSet<String> = (0..1000).map(|_| text()).collect();
        assert_eq!(texts.len(), 1000);
        assert!(texts.iter().all(|text| text.len() == LENGTH));
        let used: HashSet<char> = texts.iter().flat_map(|text| text.chars()).collect();
        assert_eq!(used.len(), 62);
        assert!(used.iter().all(char::is_ascii_alphanumeric));
        assert_eq!(nonce().len(), 24);
    }
}
