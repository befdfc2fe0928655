//! What precedes the bytes: HTTP upgrade requests and their responses.
//!
//! In scope: reading heads with limits in bytes and time, writing those of WebRoute and WebSocket,
//! ids and accept values. Not in scope: authorization.

mod read;
mod write;

use std::fmt;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64ct::{Base64, Encoding};

pub use read::{HeadError, MAX_BYTES, read_answer, read_request};
pub use write::{
    Upgrade, webroute_accepted, webroute_request, websocket_accepted, websocket_request,
};

/// Header fields of the protocol, as the original writes them. Names are compared case-insensitively.
pub mod field {
    /// The key of a server or a caller.
    pub const KEY: &str = "X-Remoted-APIKey";
    /// Always 1.
    pub const VERSION: &str = "WebRoute-Version";
    /// Shared by caller and server.
    pub const ID: &str = "WebRoute-ID";
    /// Seconds.
    pub const TIMEOUT: &str = "WebRoute-Timeout";
    /// What a server does with bytes that arrive together with its 101. Not of the original.
    pub const EARLY: &str = "RP-Early-Bytes";
    /// It keeps them.
    pub const KEPT: &str = "kept";
    /// Proof that the other side speaks WebRoute.
    pub const ACCEPT: &str = "Sec-WebRoute-Accept";
}

/// Appended to the id for the accept value of WebRoute.
const WEBROUTE: &str = "BE7204BD-47E6-49EE-9B0D-016E370644B2";
/// Appended to the key for the accept value of a WebSocket (RFC 6455, section 1.3).
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// As sent: methods are case-sensitive.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// The header fields.
    pub fields: Fields,
}

impl UpgradeRequest {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// Whether it requests an upgrade to this protocol, such as `webroute`.
    pub fn upgrades_to(&self, protocol: &str) -> bool {
        self.method == "GET"
            && self.fields.has_token("Connection", "upgrade")
            && self.fields.has_token("Upgrade", protocol)
    }

    /// Whether a body follows.
    pub fn has_body(&self) -> bool {
        self.fields.find("Transfer-Encoding").is_some()
            || self.fields.find("Content-Length").is_some_and(|length| length.trim() != "0")
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeResponse {
    /// Such as 101.
    pub status: u16,
    /// The header fields.
    pub fields: Fields,
}

/// Header fields in order. `Debug` shows no value: one of them is a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The value of the first field with this name.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether one of the comma-separated values is this token, case-insensitively.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    }

    #[cfg(test)]
    pub(super) fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The accept value of a WebRoute with this id, for both sides.
pub fn webroute_accept(id: &str) -> String {
    accept(id, WEBROUTE)
}

/// The accept value for this `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
pub fn websocket_accept(key: &str) -> String {
    accept(key, WEBSOCKET)
}

fn accept(text: &str, guid: &str) -> String {
    let both = [text, guid].concat();
    Base64::encode_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, both.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_values_are_those_of_the_documents() {
        let id = "Zw1BTNkHbth2XqMg8AlKWwLegXUFWFw6i2c4QLvNxGfWPv9bcthU1tNPokn4QkyI";
        assert_eq!(webroute_accept(id), "nZJBek4mnWf3Wd8JD7hBrU/97CI=");
        // RFC 6455, section 1.3.
        assert_eq!(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn fields_are_found_in_any_case_and_never_shown() {
        let fields = Fields(vec![
            ("x-remoted-APIKEY".to_owned(), "SECRET".to_owned()),
            ("Connection".to_owned(), "keep-alive, upgrade".to_owned()),
        ]);
        assert_eq!(fields.find(field::KEY), Some("SECRET"));
        assert!(fields.has_token("connection", "Upgrade"));
        assert!(!fields.has_token("connection", "grade"));
        assert!(!format!("{fields:?}").contains("SECRET"));
    }
}
