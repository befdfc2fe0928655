//! Selects the proxy to a broker, if any.
//!
//! In scope: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, as curl reads them. Not in scope: talking to
//! the proxy.

use crate::net::dial::{Exceptions, Proxy};

/// The proxies of a program, and the hosts that are reached directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    tls: Option<Proxy>,
    plain: Option<Proxy>,
    exceptions: Exceptions,
}

impl Proxies {
    /// From the values of `HTTPS_PROXY` (for `rwss` and `rwrs`), `HTTP_PROXY` (for `rws` and `rwr`)
    /// and `NO_PROXY`; an empty value counts as unset. Errors name the variable and never show its
    /// value, which may contain a password.
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
            text => text
                .parse()
                .map(Some)
                .map_err(|accepted: &str| format!("{name} is no proxy; accepted is {accepted}")),
        };
        let tls = parse("HTTPS_PROXY", https_proxy)?;
        let plain = parse("HTTP_PROXY", http_proxy)?;
        let exceptions = Exceptions::parse(no_proxy)
            .map_err(|accepted| format!("NO_PROXY is too long; accepted is {accepted}"))?;
        Ok(Self { tls, plain, exceptions })
    }

    /// The proxy for this host, if any. `host` is without brackets.
    pub(super) fn to(&self, host: &str, port: u16, is_tls: bool) -> Option<&Proxy> {
        let proxy = if is_tls { &self.tls } else { &self.plain };
        proxy.as_ref().filter(|_| !self.exceptions.cover(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_its_proxy_but_for_the_exceptions() {
        let proxies = Proxies::new("http://p1:3128", "p2/", "b.example,c.example:443").unwrap();
        let to = |host: &str, port, is_tls| proxies.to(host, port, is_tls).map(ToString::to_string);
        assert_eq!(to("h", 443, true).unwrap(), "http://p1:3128");
        assert_eq!(to("h", 80, false).unwrap(), "http://p2:80");
        assert_eq!(to("a.b.example", 443, true), None);
        assert_eq!(
            (to("c.example", 443, true), to("c.example", 80, false).is_some()),
            (None, true)
        );
        assert_eq!(Proxies::default().to("h", 443, true), None);
    }

    #[test]
    fn a_wrong_value_is_named_by_its_variable_and_not_shown() {
        for wrong in ["https://SECRET@p", "http://SECRET@", "http://SECRET@p:0"] {
            let error = Proxies::new("", wrong, "").unwrap_err();
            assert!(error.starts_with("HTTP_PROXY ") && !error.contains("SECRET"), "{error}");
        }
        let error = Proxies::new("", "", &"SECRET,".repeat(1000)).unwrap_err();
        assert!(error.starts_with("NO_PROXY ") && !error.contains("SECRET"), "{error}");
    }
}
