//! Credentials for a proxy.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// Longest user and longest password, in bytes (RFC 1929, section 2).
const MAX_CREDENTIAL: usize = 255;

/// A user and a password, percent-decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub user: Zeroizing<Vec<u8>>,
    pub password: Zeroizing<Vec<u8>>,
}

impl Credentials {
    /// `USER[:PASSWORD]`, percent-encoded.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let [user, password] = [user, password]
            .map(|text| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>()));
        let fits =
            |bytes: &[u8]| bytes.len() <= MAX_CREDENTIAL && !bytes.iter().any(u8::is_ascii_control);
        (!user.is_empty() && fits(&user) && fits(&password)).then_some(Self { user, password })
    }
}
