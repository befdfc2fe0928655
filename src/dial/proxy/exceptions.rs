//! Which hosts are reached without a proxy.

use std::net::IpAddr;

use super::host_and_port;

/// Most entries of a list.
const MAX_EXCEPTIONS: usize = 256;

/// The hosts that are reached without a proxy, as in `NO_PROXY`: names with all names below them,
/// addresses, either with a port or without, or `*`; separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Host(String, Option<u16>),
}

impl Exceptions {
    /// Reads a list; an error when it is too long. An entry that no host is called covers none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let entries: Vec<_> = entries.take(MAX_EXCEPTIONS + 1).map(Exception::parse).collect();
        if entries.len() > MAX_EXCEPTIONS {
            return Err(format!("up to {MAX_EXCEPTIONS} hosts, separated by commas"));
        }
        Ok(Self(entries))
    }

    /// Whether this host, a name or an address without brackets, is among them.
    pub fn cover(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        self.0.iter().any(|exception| exception.covers(&host, port))
    }
}

impl Exception {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::All;
        }
        let bare = text.trim_start_matches("*.").trim_start_matches('.');
        match host_and_port(bare) {
            Some((host, port)) => Self::Host(host, port),
            // An IPv6 address without brackets, or what no host is called.
            None => Self::Host(bare.to_ascii_lowercase(), None),
        }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let (name, only) = match self {
            Self::All => return true,
            Self::Host(name, only) => (name, only),
        };
        if only.is_some_and(|only| only != port) {
            return false;
        }
        let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        match (address(name), address(host)) {
            (Some(excepted), Some(host)) => excepted == host,
            (None, None) => {
                let (host, name) = (host.trim_end_matches('.'), name.trim_end_matches('.'));
                host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_names_below_names_addresses_and_ports() {
        let list = "a.example, .B.example,*.c.example,10.0.0.1,::1,d.example:8443,[::2]:5,";
        let exceptions = Exceptions::parse(list).unwrap();
        for (host, port, is_direct) in [
            ("a.example", 443, true),
            ("x.A.example", 443, true),
            ("xa.example", 443, false),
            ("b.example", 443, true),
            ("x.b.example.", 443, true),
            ("x.c.example", 443, true),
            ("10.0.0.1", 443, true),
            ("::ffff:10.0.0.1", 443, true),
            ("10.0.0.11", 443, false),
            ("::1", 443, true),
            ("::2", 5, true),
            ("::2", 6, false),
            ("d.example", 8443, true),
            ("d.example", 443, false),
            ("example", 443, false),
        ] {
            assert_eq!(exceptions.cover(host, port), is_direct, "{host}:{port}");
        }
        assert!(Exceptions::parse("*").unwrap().cover("anything", 1));
        assert!(Exceptions::parse(&"a,".repeat(MAX_EXCEPTIONS)).is_ok());
        assert!(Exceptions::parse(&"a,".repeat(MAX_EXCEPTIONS + 1)).is_err());
    }
}
