//! A name that a certificate may be issued for.
//!
//! In scope: which names are safe in a certificate, a file name and a URL path. Not in scope:
//! whether the name resolves.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::SanType;
use rustls::pki_types::DnsName;

use crate::identity::text::is_invisible;

/// The longest name, in characters: the limit of a common name (RFC 5280, `ub-common-name`).
pub const MAX_NAME: usize = 64;

/// A host name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Letters, digits, `-`, `_` and `.`; begins and ends with a letter or digit, or with `_`.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl Name {
    pub(super) fn to_san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Ip(address) => SanType::IpAddress(*address),
        })
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let is_clean = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() {
            Err(NameError("a name has at least one character"))
        } else if text.len() > MAX_NAME {
            Err(NameError("a name has at most 64 characters"))
        } else if !text.chars().all(is_clean) {
            Err(NameError("a name consists of letters, digits, '-', '_' and '.'"))
        } else if text.starts_with(['-', '.']) || text.ends_with(['-', '.']) {
            Err(NameError("a name does not begin or end with '-' or '.'"))
        } else if DnsName::try_from(text).is_err() {
            Err(NameError("this is no host name: see its parts between the dots"))
        } else {
            Ok(Self::Dns(text.to_owned()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// The name of a CA: 1 to 64 letters and digits of any alphabet, spaces and ASCII punctuation. It
/// is for display only, so it has no control characters and none that hide or reorder others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaName(String);

impl CaName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CaName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_clean =
            |c: char| (c.is_alphanumeric() || c == ' ' || c.is_ascii_graphic()) && !is_invisible(c);
        if text.trim().is_empty() {
            Err(NameError("a name has at least one character"))
        } else if text.chars().count() > MAX_NAME {
            Err(NameError("a name has at most 64 characters"))
        } else if !text.chars().all(is_clean) {
            Err(NameError("a CA's name consists of letters, digits, spaces and signs of ASCII"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// The requirement that a name does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameError(&'static str);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_and_addresses_are_names() {
        for name in ["localhost", "web-1", "a", "web_1.example.com", "Web1", &"a".repeat(63)] {
            assert_eq!(name.parse::<Name>(), Ok(Name::Dns(name.to_owned())));
        }
        assert_eq!("::1".parse::<Name>(), Ok(Name::Ip("::1".parse().unwrap())));
        assert_eq!("10.0.0.5".parse::<Name>().unwrap().to_string(), "10.0.0.5");
    }

    #[test]
    fn a_ca_may_be_called_anything_that_can_be_shown() {
        for name in ["Example CA", "Prüfstelle 7 (Zürich)", "a", &"ä".repeat(64)] {
            assert_eq!(name.parse::<CaName>(), Ok(CaName(name.to_owned())));
        }
        for name in [
            "",
            "  ",
            "a\nb",
            "a\0",
            "\u{1b}[2J",
            "a\u{202e}b",
            "a\u{200b}",
            "a\u{3164}",
            "\u{115f}",
            &"a".repeat(65),
        ] {
            assert!(name.parse::<CaName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_could_be_a_path_an_option_or_a_wildcard_is_not() {
        let long = "a.".repeat(32) + "a";
        let label = "a".repeat(64);
        for name in [
            "", ".", "..", "-a", ".a", "a-", "a.", "a..b", "a/b", "../a", "a b", "a\n", "*.a", "ä",
            "a\0", "-", &long, &label,
        ] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
    }
}
