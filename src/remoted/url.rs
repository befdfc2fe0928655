//! The addresses of paths on a broker: `rws://`, `rwss://`, `rwr://`, `rwrs://`.
//!
//! In scope: parsing them, and formatting them without the key. Not in scope: keys from elsewhere
//! than the address.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::key::Key;
use crate::net::dial::{bracketed, split_host_port};

/// The longest address, in bytes.
const MAX_URL: usize = 8 * 1024;

/// Which side of a path an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `rws` and `rwss`: the server of the path.
    Server,
    /// `rwr` and `rwrs`: its callers.
    Caller,
}

/// A path on a broker, and the key that opens it: `rwss://KEY@HOST[:PORT]/PATH`.
///
/// `Display` and `Debug` omit the key:
///
/// ```
/// use restpipe::remoted::{Side, Url};
///
/// let url: Url = "rwrs://secret@broker.example.com/backup/nas".parse()?;
/// assert_eq!(url.side(), Side::Caller);
/// assert_eq!(url.path(), "/backup/nas");
/// assert_eq!(url.to_string(), "rwrs://broker.example.com/backup/nas");
/// assert!(!format!("{url:?}").contains("secret"));
/// # Ok::<(), restpipe::remoted::UrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    side: Side,
    is_tls: bool,
    key: Option<Key>,
    /// A name, or an IP address without brackets.
    host: String,
    port: u16,
    /// With its query, as sent.
    path: String,
}

impl Url {
    /// Which side of the path it is for.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Whether the broker is reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The broker's name or IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The broker's port; 80 by default, or 443 for TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path with its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Adds this key if the address has none.
    pub fn or_key(mut self, key: Option<&Key>) -> Self {
        self.key = self.key.or_else(|| key.cloned());
        self
    }

    /// Whether it has a key.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub(super) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// `HOST` or `HOST:PORT` as in a `Host` header (RFC 9110, section 7.2).
    pub(super) fn authority(&self) -> String {
        if self.port == default_port(self.is_tls) {
            bracketed(&self.host).into_owned()
        } else {
            format!("{}:{}", bracketed(&self.host), self.port)
        }
    }

    /// The `Origin` that a browser would send; the broker requires one (RFC 6454).
    pub(super) fn origin(&self) -> String {
        format!("http{}://{}", if self.is_tls { "s" } else { "" }, self.authority())
    }

    fn scheme(&self) -> &'static str {
        match (self.side, self.is_tls) {
            (Side::Server, false) => "rws",
            (Side::Server, true) => "rwss",
            (Side::Caller, false) => "rwr",
            (Side::Caller, true) => "rwrs",
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

/// What is wrong with an address. Shows nothing of the address, which may contain a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(&'static str);

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError("the address is longer than 8 KiB"));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or(UrlError("an address begins with rws://, rwss://, rwr:// or rwrs://"))?;
        let (side, is_tls) = match scheme.to_ascii_lowercase().as_str() {
            "rws" => (Side::Server, false),
            "rwss" => (Side::Server, true),
            "rwr" => (Side::Caller, false),
            "rwrs" => (Side::Caller, true),
            _ => return Err(UrlError("the scheme is none of rws, rwss, rwr and rwrs")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (key, address) = match authority.rsplit_once('@') {
            Some((key, address)) => (Some(key), address),
            None => (None, authority),
        };
        let key = key.map(decode_key).transpose()?;
        let (host, port) = split_host_port(address).map_err(UrlError)?;
        let host = host.to_ascii_lowercase();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(UrlError(
                "the path has a character that an address cannot have; percent-encode it",
            ));
        }
        let port = port.unwrap_or(default_port(is_tls));
        Ok(Self { side, is_tls, key, host, port, path })
    }
}

/// Percent-decodes the key: one with an `@` or a `/` could not be written otherwise.
fn decode_key(text: &str) -> Result<Key, UrlError> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| UrlError("the key in the address is not text"))?;
    text.parse().map_err(|_| {
        UrlError("the key in the address is empty or has characters that a header cannot have")
    })
}

const fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Url {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn an_address_is_split_into_its_parts() {
        let url = parse("rws://KEY@Broker.Example:37791/test/path/?a=b");
        assert_eq!((url.side(), url.is_tls()), (Side::Server, false));
        assert_eq!((url.host(), url.port()), ("broker.example", 37791));
        assert_eq!(url.path(), "/test/path/?a=b");
        assert_eq!(url.key().map(Key::reveal), Some("KEY"));
        assert_eq!(url.authority(), "broker.example:37791");
        let url = parse("rwrs://a%40b%2F@[::1]/x");
        assert_eq!((url.side(), url.is_tls(), url.port()), (Side::Caller, true, 443));
        assert_eq!(url.key().map(Key::reveal), Some("a@b/"));
        assert_eq!((url.authority().as_str(), url.origin().as_str()), ("[::1]", "https://[::1]"));
        for (text, path) in [("rwr://k@h", "/"), ("rwr://k@h?q", "/?q"), ("rwr://k@h:1/", "/")] {
            assert_eq!(parse(text).path(), path);
        }
        assert!(!parse("rwss://h/p").has_key());
        assert_eq!(parse("rwr://h/p").or_key("k".parse().ok().as_ref()), parse("rwr://k@h/p"));
        assert_eq!(parse("rwr://k@h/p").or_key("x".parse().ok().as_ref()), parse("rwr://k@h/p"));
    }

    #[test]
    fn a_wrong_address_is_refused_and_not_repeated() {
        for text in [
            "",
            "SECRET@h/p",
            "http://SECRET@h/p",
            "rws://SECRET@/p",
            "rws://SECRET@h:0/p",
            "rws://SECRET@h:65536/p",
            "rws://SECRET@h:+1/p",
            "rws://SECRET@h:/p",
            "rws://SECRET@h/a b",
            "rws://SECRET@h/a\r\nX: y",
            "rws://SECRET@h/ä",
            "rws://SECRET@h/p#f",
            "rws://@h/p",
            "rws://SECRET%0d%0aX@h/p",
            "rws://SECRET%ff@h/p",
            "rws://SECRET@::1/p",
            "rws://SECRET@[::1/p",
            "rws://SECRET@[x]/p",
            "rws://SECRET@[::1]x/p",
            "rws://SECRET@h h/p",
        ] {
            let error = text.parse::<Url>().expect_err(text).to_string();
            assert!(!error.contains("SECRET") && !error.is_empty(), "{text}: {error}");
        }
        let long = format!("rws://k@h/{}", "a".repeat(MAX_URL));
        assert!(long.parse::<Url>().is_err());
    }

    #[test]
    fn no_form_of_an_address_shows_its_key() {
        let url = parse("rwss://SECRET@h:8443/p");
        assert_eq!(url.to_string(), "rwss://h:8443/p");
        assert!(!format!("{url:?} {url:#?}").contains("SECRET"));
    }
}
