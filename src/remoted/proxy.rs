//! Which HTTP proxy leads out to a broker, if any.
//!
//! In scope: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, as curl reads them. Not in scope: talking to
//! the proxy.

use std::fmt;
use std::net::IpAddr;

use base64ct::{Base64, Encoding};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::url::{bracketed, split_port};

/// Most entries of `NO_PROXY`.
const MAX_EXCEPTIONS: usize = 256;

/// The proxies of a program, and what is reached without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    tls: Option<Proxy>,
    plain: Option<Proxy>,
    exceptions: Vec<Exception>,
}

impl Proxies {
    /// From the values of `HTTPS_PROXY` (for `rwss` and `rwrs`), `HTTP_PROXY` (for `rws` and `rwr`)
    /// and `NO_PROXY`; an empty one is none. An error names the variable and never shows its value,
    /// which may hold a password.
    ///
    /// ```
    /// use restpipe::remoted::Proxies;
    ///
    /// let proxies = Proxies::new("http://user:secret@proxy.example:3128", "", ".example.com")?;
    /// assert!(!format!("{proxies:?}").contains("secret"));
    /// assert!(Proxies::new("https://proxy.example", "", "").is_err());
    /// # Ok::<(), String>(())
    /// ```
    pub fn new(https_proxy: &str, http_proxy: &str, no_proxy: &str) -> Result<Self, String> {
        let parse = |name: &str, text: &str| match text {
            "" => Ok(None),
            text => Proxy::parse(text).map(Some).map_err(|why| format!("{name} {why}")),
        };
        let tls = parse("HTTPS_PROXY", https_proxy)?;
        let plain = parse("HTTP_PROXY", http_proxy)?;
        let entries = no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let exceptions: Vec<_> = entries.map(Exception::parse).collect();
        if exceptions.len() > MAX_EXCEPTIONS {
            return Err(format!("NO_PROXY has more than {MAX_EXCEPTIONS} entries"));
        }
        Ok(Self { tls, plain, exceptions })
    }

    /// The proxy to this host, if one is to be used. `host` is in lower case and without brackets.
    pub(super) fn to(&self, host: &str, port: u16, is_tls: bool) -> Option<&Proxy> {
        let proxy = if is_tls { &self.tls } else { &self.plain };
        let is_excepted = || self.exceptions.iter().any(|exception| exception.covers(host, port));
        proxy.as_ref().filter(|_| !is_excepted())
    }
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// Where it is.
    pub host: String,
    /// Where it is.
    pub port: u16,
    /// What follows `Proxy-Authorization: `, where the address has a user.
    authorization: Option<Zeroizing<String>>,
}

impl Proxy {
    /// `[http://][USER:PASSWORD@]HOST[:PORT][/]`, port 80 where none is given.
    fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err("is no proxy that is spoken to by plain HTTP".to_owned()),
            None => text,
        };
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, rest),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) =
            split_port(address).map_err(|error| format!("has a wrong address: {error}"))?;
        let authorization = credentials.map(|text| {
            let (user, password) = text.split_once(':').unwrap_or((text, ""));
            let mut pair = Zeroizing::new(percent_decode_str(user).collect::<Vec<u8>>());
            pair.push(b':');
            pair.extend(percent_decode_str(password));
            Zeroizing::new(format!("Basic {}", Base64::encode_string(&pair)))
        });
        Ok(Self { host, port: port.unwrap_or(80), authorization })
    }

    /// The request for a connection to this host (RFC 9110, section 9.3.6; RFC 7617).
    pub(super) fn request(&self, host: &str, port: u16) -> Zeroizing<String> {
        let target = format!("{}:{port}", bracketed(host));
        let mut head = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
        if let Some(authorization) = &self.authorization {
            head.push_str("Proxy-Authorization: ");
            head.push_str(authorization);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

/// Where it is, and nothing else.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// A name, and every name that ends in a dot and it; or an address; and perhaps only a port.
    Host(String, Option<u16>),
}

impl Exception {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::All;
        }
        let bare = text.trim_start_matches("*.").trim_start_matches('.');
        match split_port(bare) {
            Ok((host, port)) => Self::Host(host, port),
            // An IPv6 address without brackets, or what no host is called.
            Err(_) => Self::Host(bare.to_ascii_lowercase(), None),
        }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Host(_, Some(only)) if *only != port => false,
            Self::Host(name, _) => {
                let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
                match (address(name), address(host)) {
                    (Some(excepted), Some(host)) => excepted == host,
                    (None, None) => {
                        let host = host.trim_end_matches('.');
                        let name = name.trim_end_matches('.');
                        host == name
                            || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
                    }
                    _ => false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_its_proxy() {
        let proxies = Proxies::new("http://p1:3128", "p2/", "").unwrap();
        assert_eq!(proxies.to("h", 443, true).unwrap().to_string(), "p1:3128");
        assert_eq!(proxies.to("h", 80, false).unwrap().to_string(), "p2:80");
        assert_eq!(Proxies::default().to("h", 443, true), None);
    }

    #[test]
    fn exceptions_are_names_below_names_addresses_and_ports() {
        let list = "a.example, .b.example,*.c.example,10.0.0.1,::1,d.example:8443,";
        let proxies = Proxies::new("http://p", "", list).unwrap();
        for (host, port, is_direct) in [
            ("a.example", 443, true),
            ("x.a.example", 443, true),
            ("xa.example", 443, false),
            ("b.example", 443, true),
            ("x.b.example.", 443, true),
            ("x.c.example", 443, true),
            ("10.0.0.1", 443, true),
            ("10.0.0.11", 443, false),
            ("::1", 443, true),
            ("d.example", 8443, true),
            ("d.example", 443, false),
            ("example", 443, false),
        ] {
            assert_eq!(proxies.to(host, port, true).is_none(), is_direct, "{host}:{port}");
        }
        let none = Proxies::new("http://p", "", "*").unwrap();
        assert_eq!(none.to("anything", 443, true), None);
    }

    #[test]
    fn a_request_carries_the_user_and_a_message_does_not() {
        let proxies = Proxies::new("http://us%40er:pa%3ass@[::1]:3128/", "", "").unwrap();
        let proxy = proxies.to("broker.example", 443, true).unwrap();
        assert_eq!(
            *proxy.request("broker.example", 443),
            "CONNECT broker.example:443 HTTP/1.1\r\nHost: broker.example:443\r\n\
             Proxy-Authorization: Basic dXNAZXI6cGE6c3M=\r\n\r\n"
        );
        assert!(proxy.request("::1", 1).starts_with("CONNECT [::1]:1 HTTP/1.1\r\n"));
        assert_eq!(format!("{proxy} {proxy:?}"), "[::1]:3128 Proxy([::1]:3128)");
        for wrong in
            ["https://SECRET@p", "socks5://SECRET@p", "http://SECRET@", "http://SECRET@p:0"]
        {
            let error = Proxies::new(wrong, "", "").unwrap_err();
            assert!(error.starts_with("HTTPS_PROXY ") && !error.contains("SECRET"), "{error}");
        }
    }
}
