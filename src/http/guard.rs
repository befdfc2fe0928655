//! Prevents web pages in a browser from using the pipe.
//!
//! A page can make its browser send requests to a local port, and with DNS rebinding even under the
//! page's own name. It cannot choose `Host`, `Origin` and `Sec-Fetch-Site`, so these three decide.
//! Programs such as curl send the name from their URL in `Host`, and neither of the others. Nor does
//! a browser, for an image or a link under a plain-http name: there only `Referer` can show which
//! page asks, which a page can withhold but not forge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Bind;
use crate::event::errors;
use crate::http::HttpSettings;
use crate::http::head::RequestHead;
use crate::http::refusal::Refusal;

/// The hosts and origins whose requests are accepted.
pub(super) struct Guard {
    /// Lower case, without brackets.
    allowed: Vec<String>,
    /// The address the port is bound to.
    bound: Option<IpAddr>,
    /// Whether a browser need not show which page asks.
    admits_unproven: bool,
}

impl Guard {
    /// Accepts loopback, the names in `settings`, and the address in `bind` if it is a single
    /// address.
    pub fn new(settings: &HttpSettings, bind: &Bind) -> Self {
        let bound = match bind {
            Bind::Tcp(address) => Some(address.ip()).filter(|ip| !ip.is_unspecified()),
            Bind::Unix(_) => None,
        };
        let plain =
            |name: &String| name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Self {
            allowed: settings.allowed_hosts.iter().map(plain).collect(),
            bound,
            admits_unproven: settings.admit_unproven_browsers,
        }
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
                let message = format!(
                    "pages of {origin:?} may not use this port; RP_HTTP_ALLOWED_HOSTS lists names \
                     whose pages may"
                );
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

    /// Fails with 403 for a request to a peer that a browser sends without showing that an accepted
    /// page, or the user, has caused it. For a request that passed [`Guard::check`].
    pub fn check_proof(&self, head: &RequestHead<'_>) -> Result<(), Refusal> {
        if self.admits_unproven || self.is_proven(head) {
            return Ok(());
        }
        let message = "a browser seems to ask, and nothing shows for which page: ask by \
            http://localhost or https, where browsers say it (Sec-Fetch-Site), from a page of a name \
            in RP_HTTP_ALLOWED_HOSTS (Referer), or allow such requests of all pages by \
            RP_HTTP_UNPROVEN_BROWSERS=1; a program that is no browser needs another User-Agent";
        Err(Refusal::new(errors::ORIGIN_NOT_ALLOWED, message))
    }

    fn is_proven(&self, head: &RequestHead<'_>) -> bool {
        if head.origin.is_some() {
            return true;
        }
        let referer = head.header("referer").map(|referer| self.allows_origin(referer));
        match head.fetch_site {
            Some("same-origin" | "none") => true,
            // Another port of the same name or, behind an allowed name, a sibling of it.
            Some("same-site") => {
                let host = head.header("x-forwarded-host").or(head.host);
                host.is_some_and(is_loopback) || referer == Some(true)
            }
            Some(_) => referer == Some(true),
            None => referer.unwrap_or_else(|| !is_of_browser(head)),
        }
    }

    /// Whether `HOST[:PORT]` is accepted.
    fn allows(&self, authority: &str) -> bool {
        let Some(host) = without_port(authority) else { return false };
        is_loopback(authority)
            || self.allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
            || (self.bound.is_some() && address(authority) == self.bound)
    }

    /// Whether the origin `SCHEME://HOST[:PORT]`, of a URL or alone, is accepted; `null` is not.
    fn allows_origin(&self, url: &str) -> bool {
        let authority = url.split_once("://").map(|(_, rest)| rest);
        let authority = authority.and_then(|rest| rest.split(['/', '?', '#']).next());
        authority.is_some_and(|authority| self.allows(authority))
    }
}

/// Whether the headers are those of a browser. All browsers send the first of these, and a page
/// cannot change it in a request to another origin; libraries for programs do not.
fn is_of_browser(head: &RequestHead<'_>) -> bool {
    let agent = head.header("user-agent").unwrap_or_default();
    ["Mozilla/", "Opera/"].iter().any(|browser| agent.starts_with(browser))
        || ["upgrade-insecure-requests", "sec-ch-ua", "sec-purpose", "sec-gpc", "dnt"]
            .iter()
            .any(|name| head.header(name).is_some())
}

/// Whether `HOST[:PORT]` is this machine in any case.
fn is_loopback(authority: &str) -> bool {
    without_port(authority).is_some_and(|host| host.eq_ignore_ascii_case("localhost"))
        || address(authority).is_some_and(|ip| ip.is_loopback())
}

/// The IP address in `HOST[:PORT]`.
fn address(authority: &str) -> Option<IpAddr> {
    let host = without_port(authority)?;
    match authority.starts_with('[') {
        true => host.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        false => host.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
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
    use crate::event::peer::Role;
    use crate::http::head::parse;

    fn guard(bind: &str) -> Guard {
        let mut settings = HttpSettings::new(Role::Server);
        settings.allowed_hosts = vec!["rpserver.local".into()];
        Guard::new(&settings, &Bind::Tcp(bind.parse().unwrap()))
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
    fn a_browser_shows_which_page_asks() {
        let browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101\r\n";
        let cases = [
            ("", true),
            ("User-Agent: curl/8.14.1\r\nAccept: */*\r\n", true),
            ("User-Agent: node\r\nAccept-Language: *\r\nSec-Fetch-Mode: cors\r\n", true),
            (browser, false),
            ("Upgrade-Insecure-Requests: 1\r\n", false),
            ("DNT: 1\r\n", false),
            ("Sec-Purpose: prefetch\r\n", false),
            ("Referer: http://evil.example/\r\n", false),
            ("Referer: http://evil.example/?http://localhost/\r\n", false),
            ("Referer: http://localhost@evil.example/\r\n", false),
            ("Referer: \r\n", false),
            ("Sec-Fetch-Site: same-origin\r\n", true),
            ("Sec-Fetch-Site: none\r\n", true),
            ("Sec-Fetch-Site: same-site\r\n", true),
            ("Sec-Fetch-Site: same-site\r\nX-Forwarded-Host: hub.example\r\n", false),
            ("Sec-Fetch-Site: else\r\n", false),
            ("Origin: http://localhost:3000\r\n", true),
        ];
        let guard = guard("127.0.0.1:80");
        let is_let_in = |guard: &Guard, fields: &str| {
            let bytes = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            let head = parse(bytes.as_bytes()).unwrap();
            guard.check(&head, None).unwrap();
            match guard.check_proof(&head) {
                Ok(()) => true,
                Err(refusal) => {
                    assert_eq!((refusal.status, refusal.error), (403, "origin_not_allowed"));
                    assert!(refusal.message.contains("RP_HTTP_UNPROVEN_BROWSERS=1"));
                    false
                }
            }
        };
        for (fields, expected) in cases {
            assert_eq!(is_let_in(&guard, fields), expected, "{fields:?}");
        }
        for referer in ["http://localhost:8081/client/a/b?c", "https://RPserver.local/#x"] {
            let fields = format!("{browser}Referer: {referer}\r\n");
            assert!(is_let_in(&guard, &fields), "{referer}");
        }
        let lax = Guard { admits_unproven: true, ..guard };
        assert!(is_let_in(&lax, browser));
    }

    #[test]
    fn the_authority_of_the_target_goes_before_the_host() {
        let head = parse(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
        assert_eq!(guard("127.0.0.1:80").check(&head, None).unwrap_err().status, 421);
        assert_eq!(guard("127.0.0.1:80").check(&head, Some("localhost")), Ok(()));
    }
}
