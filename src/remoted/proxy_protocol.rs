//! The line that passes the caller's address to a server: version 1 of HAProxy's PROXY protocol, which nginx,
//! Apache, PostgreSQL's poolers and many others read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The line that precedes the caller's bytes. `source` is the caller as the broker sees it; `destination` is
/// the broker, if known and of the same address family.
///
/// <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.1.
pub(super) fn line(source: Option<SocketAddr>, destination: Option<SocketAddr>) -> String {
    let Some(source) = source else { return "PROXY UNKNOWN\r\n".to_owned() };
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let source = canonical(source);
    let (family, none) = match source.ip() {
        IpAddr::V4(_) => ("TCP4", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        IpAddr::V6(_) => ("TCP6", SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
    };
    let destination = destination
        .map(canonical)
        .filter(|destination| destination.is_ipv4() == source.is_ipv4())
        .unwrap_or(none);
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
}

#[cfg(test)]
mod tests {

    #[test]
    fn a_line_has_both_addresses_of_one_family() {
        let line = |source: &str, destination: &str| {
            super::line(source.parse().ok(), destination.parse().ok())
        };
        assert_eq!(
            line("192.0.2.1:32828", "198.51.100.1:443"),
            "PROXY TCP4 192.0.2.1 198.51.100.1 32828 443\r\n"
        );
        assert_eq!(line("[::ffff:192.0.2.1]:5", ""), "PROXY TCP4 192.0.2.1 0.0.0.0 5 0\r\n");
        assert_eq!(line("[2001:db8::1]:5", "1.2.3.4:6"), "PROXY TCP6 2001:db8::1 :: 5 0\r\n");
        assert_eq!(line("", "1.2.3.4:6"), "PROXY UNKNOWN\r\n");
    }
}
