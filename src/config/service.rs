//! The address of a local HTTP service. It comes from the configuration alone.

use std::fmt;
use std::path::PathBuf;

use super::value::{self, Expected};
use crate::net::bind::MAX_SOCKET_PATH;
use crate::net::dial::{bracketed, split_host_port};

/// Longest URL.
const MAX_URL_BYTES: usize = 2048;

/// The address of a local HTTP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAddress {
    /// `http://HOST:PORT/PREFIX`.
    Tcp {
        /// Host name or IP address, an IPv6 address without brackets.
        host: String,
        /// Port.
        port: u16,
        /// The prefix of every request's path: empty, or with a leading and without a trailing
        /// slash. It needs no encoding.
        prefix: String,
    },
    /// `http+unix:PATH`: a Unix socket, its path absolute.
    Unix(PathBuf),
}

impl ServiceAddress {
    /// Reads what follows `http://`.
    pub(super) fn from_url(text: &str) -> Result<Self, Expected> {
        let expected = || "http://HOST:PORT/PREFIX, the port and the prefix if needed".to_owned();
        if text.len() > MAX_URL_BYTES {
            return Err(expected());
        }
        let (authority, path) = text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()));
        if authority.contains('@') {
            return Err("an http URL without a user and password".to_owned());
        }
        let (host, port) = split_host_port(authority).map_err(|_| expected())?;
        let host = value::host(host).map_err(|_| expected())?;
        let port = port.unwrap_or(80);
        let prefix = path.trim_end_matches('/');
        if prefix.contains(['?', '#']) {
            return Err("an http URL without a query and fragment".to_owned());
        }
        // RFC 3986, section 3.3, except for empty and dot segments.
        let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
        let is_clean = || is_path(prefix) && prefix[1..].split('/').all(is_segment);
        if !prefix.is_empty() && !is_clean() {
            return Err(
                "an http URL whose path is percent-encoded and has no empty, `.` or `..` segment"
                    .to_owned(),
            );
        }
        Ok(Self::Tcp { host, port, prefix: prefix.to_owned() })
    }

    /// Reads what follows `http+unix:`.
    pub(super) fn from_socket(text: &str) -> Result<Self, Expected> {
        let path = value::path(text)?;
        if text.starts_with('/') && text.len() <= MAX_SOCKET_PATH {
            Ok(Self::Unix(path))
        } else {
            Err(format!("http+unix: and an absolute path of at most {MAX_SOCKET_PATH} bytes"))
        }
    }

    /// The `Host` of a request.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } => format!("{}:{port}", bracketed(host)),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// As in the variable.
impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { prefix, .. } => write!(f, "http://{}{prefix}", self.authority()),
            Self::Unix(path) => write!(f, "http+unix:{}", path.display()),
        }
    }
}

/// The characters that a path may have (RFC 3986, section 3.3).
fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'%' => {
                let mut is_digit = || bytes.next().is_some_and(|b| b.is_ascii_hexdigit());
                is_digit() && is_digit()
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte),
        };
        if !fine {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, host, port, prefix) in [
            ("127.0.0.1:9000", "127.0.0.1", 9000, ""),
            ("127.0.0.1:9000/", "127.0.0.1", 9000, ""),
            ("localhost:1/a/b/", "localhost", 1, "/a/b"),
            ("[::1]:9000/v%201", "::1", 9000, "/v%201"),
            ("nas.local", "nas.local", 80, ""),
        ] {
            let read = ServiceAddress::from_url(text).unwrap();
            let expected = ServiceAddress::Tcp { host: host.into(), port, prefix: prefix.into() };
            assert_eq!(read, expected, "{text}");
            let written = read.to_string();
            assert_eq!(ServiceAddress::from_url(&written["http://".len()..]), Ok(read));
        }
        let read = ServiceAddress::from_socket("/run/app.sock").unwrap();
        assert_eq!(read, ServiceAddress::Unix("/run/app.sock".into()));
        assert_eq!(
            (read.to_string(), read.authority()),
            ("http+unix:/run/app.sock".into(), "localhost".into())
        );
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused() {
        for text in [
            "", "/", ":80", "a b", "a:0", "a:65536", "a:", "a:b", "a:1:2", "::1", "[::1", "[a]:1",
            "[::1]9", "u@a:1", "u:p@a", "a/?q", "a?q", "a/#f", "a/../b", "a/b/./c", "a//b", "a/%2",
            "a/%zz", "a/b c", "a/ä", "a/\r\n", "a\r\nb",
        ] {
            assert!(ServiceAddress::from_url(text).is_err(), "{text:?}");
        }
        for text in ["", "app.sock", "/a\nb", &format!("/{}", "s".repeat(107))] {
            assert!(ServiceAddress::from_socket(text).is_err(), "{text:?}");
        }
    }
}
