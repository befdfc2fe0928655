//! Prevents web pages in a browser from using the pipe.
//!
//! A page can make its browser send requests to a local port, and with DNS rebinding even under the
//! page's own name. It cannot choose `Host`, `Origin` and `Sec-Fetch-Site`, so these three decide.
//! Programs such as curl send the name from their URL in `Host`, and neither of the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Bind;
use crate::event::errors;
use crate::http::head::RequestHead;
use crate::http::refusal::Refusal;

/// The hosts and origins whose requests are accepted.
pub(super) struct Guard {
    /// Lower case, without brackets.
    allowed: Vec<String>,
    /// The address the port is bound to.
    bound: Option<IpAddr>,
}

impl Guard {
    /// Accepts loopback, `allowed`, and the address in `bind` if it is a single address.
    pub fn new(allowed: &[String], bind: &Bind) -> Self {
        let bound = match bind {
            Bind::Tcp(address) => Some(address.ip()).filter(|ip| !ip.is_unspecified()),
            Bind::Unix(_) => None,
        };
        let plain =
            |name: &String| name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Self { allowed: allowed.iter().map(plain).collect(), bound }
    }

    /// Fails with 421 for a host that is not this one, and with 403 for a page of another origin.
    /// `authority` is that of a target in absolute form; it takes precedence over the `Host` field
    /// (RFC 9112, section 3.2.2).
    pub fn check(&self, head: &RequestHead<'_>, authority: Option<&str>) -> Result<(), Refusal> {
        // HTTP/1.0 does not require `Host`, and no browser uses HTTP/1.0.
        if let Some(host) = authority.or(head.host)
            && !self.allows(host)
        {
            let message = format!(
                "the Host {host:?} is not served here; RP_HTTP_ALLOWED_HOSTS lists further names"
            );
            return Err(Refusal::new(errors::HOST_NOT_ALLOWED, message));
        }
        match (head.origin, head.fetch_site) {
            (Some(origin), _) if !self.allows_origin(origin) => {
                let message = format!("pages of {origin:?} may not use this port");
                Err(Refusal::new(errors::ORIGIN_NOT_ALLOWED, message))
            }
            // An image or a link sends no `Origin`, but current browsers send this field.
            (None, Some("cross-site")) => {
                let message = "pages of other sites may not use this port";
                Err(Refusal::new(errors::ORIGIN_NOT_ALLOWED, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether `HOST[:PORT]` is accepted.
    fn allows(&self, authority: &str) -> bool {
        let Some(host) = without_port(authority) else { return false };
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        if self.allowed.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return true;
        }
        let address = if authority.starts_with('[') {
            host.parse::<Ipv6Addr>().map(IpAddr::V6)
        } else {
            host.parse::<Ipv4Addr>().map(IpAddr::V4)
        };
        address.is_ok_and(|ip| ip.is_loopback() || self.bound == Some(ip))
    }

    /// Whether the origin `SCHEME://HOST[:PORT]` is accepted; `null` is not.
    fn allows_origin(&self, origin: &str) -> bool {
        origin.split_once("://").is_some_and(|(_, authority)| self.allows(authority))
    }
}

/// The host without brackets; `None` if the syntax is invalid.
fn without_port(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_fine = match rest.strip_prefix(':') {
        Some(port) => port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()),
        None => rest.is_empty(),
    };
    (port_is_fine && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::parse;

    fn guard(bind: &str) -> Guard {
        Guard::new(&["rpserver.local".into()], &Bind::Tcp(bind.parse().unwrap()))
    }

    #[test]
    fn hosts_are_loopback_configured_or_bound() {
        let guard = guard("192.0.2.7:80");
        let good = [
            "localhost",
            "LOCALHOST:8081",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:8081",
            "rpserver.local",
            "RPserver.local:80",
            "192.0.2.7",
            "192.0.2.7:80",
            "localhost:",
        ];
        for host in good {
            assert!(guard.allows(host), "{host}");
        }
        let bad = [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "localhost:80:80",
            "localhost:x",
            "localhost:123456",
            "127.0.0.1.evil.example",
            "2130706433",
            "127.1",
            "192.0.2.8",
            "[::2]",
            "[::1",
            "[::1]x",
            "::1",
            "user@localhost",
            "localhost ",
            "[127.0.0.1]",
            "[]",
            "127.0.0.1,evil.example",
        ];
        for host in bad {
            assert!(!guard.allows(host), "{host}");
        }
    }

    #[test]
    fn an_unspecified_bind_address_allows_no_further_host() {
        assert!(!guard("0.0.0.0:80").allows("0.0.0.0"));
        assert!(!guard("0.0.0.0:80").allows("192.0.2.7"));
    }

    #[test]
    fn pages_of_other_sites_are_kept_out() {
        let cases = [
            ("", 200),
            ("Origin: http://localhost:3000\r\n", 200),
            ("Origin: https://rpserver.local\r\n", 200),
            ("Origin: http://[::1]:1\r\nSec-Fetch-Site: cross-site\r\n", 200),
            ("Origin: null\r\n", 403),
            ("Origin: \r\n", 403),
            ("Origin: localhost\r\n", 403),
            ("Origin: http://evil.example\r\n", 403),
            ("Origin: http://evil.example http://localhost\r\n", 403),
            ("Origin: http://localhost@evil.example\r\n", 403),
            ("Sec-Fetch-Site: cross-site\r\n", 403),
            ("Sec-Fetch-Site: none\r\n", 200),
            ("Sec-Fetch-Site: same-origin\r\n", 200),
        ];
        let guard = guard("127.0.0.1:80");
        for (fields, status) in cases {
            let bytes = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            let head = parse(bytes.as_bytes()).unwrap();
            let found = guard.check(&head, None).map_or_else(|refusal| refusal.status, |()| 200);
            assert_eq!(found, status, "{fields:?}");
        }
    }

    #[test]
    fn the_authority_of_the_target_goes_before_the_host() {
        let head = parse(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
        assert_eq!(guard("127.0.0.1:80").check(&head, None).unwrap_err().status, 421);
        assert_eq!(guard("127.0.0.1:80").check(&head, Some("localhost")), Ok(()));
    }
}
