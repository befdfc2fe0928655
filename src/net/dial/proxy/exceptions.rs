//! Which hosts are reached without a proxy.

use std::net::IpAddr;

use crate::net::dial::address::split_host_port;

/// Most entries of a list.
const MAX_EXCEPTIONS: usize = 256;

/// The hosts that are reached without a proxy, as in `NO_PROXY`: names including their subdomains,
/// addresses, both with an optional port, ranges of addresses (`10.0.0.0/8`), or `*`; separated by
/// commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Host(String, Option<u16>),
    /// An address and its prefix length.
    Range(IpAddr, u32),
}

impl Exceptions {
    /// Parses a list; fails if it is too long. An invalid entry matches no host.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let entries: Vec<_> = entries.take(MAX_EXCEPTIONS + 1).map(Exception::parse).collect();
        if entries.len() > MAX_EXCEPTIONS {
            return Err(format!("up to {MAX_EXCEPTIONS} hosts, separated by commas"));
        }
        Ok(Self(entries))
    }

    /// Whether this host, a name or an address without brackets, matches.
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
        if let Some(range) = range(text) {
            return range;
        }
        let bare = text.trim_start_matches("*.").trim_start_matches('.');
        match split_host_port(bare) {
            Ok((host, port)) => Self::Host(host.to_ascii_lowercase(), port),
            // An IPv6 address without brackets, or an invalid entry.
            Err(_) => Self::Host(bare.to_ascii_lowercase(), None),
        }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let (name, only) = match self {
            Self::All => return true,
            Self::Host(name, only) => (name, only),
            Self::Range(network, length) => {
                return host.parse().is_ok_and(|host| begins_alike(*network, host, *length));
            }
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

/// `ADDRESS/BITS`.
fn range(text: &str) -> Option<Exception> {
    let (network, length) = text.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    let length = length.parse().ok().filter(|length| *length <= most)?;
    Some(Exception::Range(network, length))
}

/// Whether two addresses of one kind share a prefix of `length` bits.
fn begins_alike(network: IpAddr, host: IpAddr, length: u32) -> bool {
    // A shift by the full width leaves nothing that could differ.
    match (network, host.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(host)) => {
            (network.to_bits() ^ host.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(host)) => {
            (network.to_bits() ^ host.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_ranges_of_addresses_too() {
        let list = "10.0.0.0/8, 192.168.7.9/32,fd00::/8,172.16.0.0/33,nets/8,10.0.0.0/-1";
        let exceptions = Exceptions::parse(list).unwrap();
        for (host, is_direct) in [
            ("10.255.1.2", true),
            ("::ffff:10.1.1.1", true),
            ("11.0.0.1", false),
            ("192.168.7.9", true),
            ("192.168.7.8", false),
            ("fdff::1", true),
            ("fe80::1", false),
            ("172.16.0.1", false),
            ("nets", false),
            ("10.example", false),
        ] {
            assert_eq!(exceptions.cover(host, 443), is_direct, "{host}");
        }
        let all = Exceptions::parse("0.0.0.0/0").unwrap();
        assert!(all.cover("203.0.113.1", 1) && !all.cover("::1", 1) && !all.cover("a", 1));
        assert!(Exceptions::parse("::/0").unwrap().cover("::1", 1));
    }

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
