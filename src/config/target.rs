//! The servers of a client: `HOST`, `HOST:PORT` or `[IPV6]:PORT`, separated by commas.

use std::fmt;

use super::ClientConfig;
use super::value::{self, Expected};
use crate::net::dial::{Proxy, bracketed, split_host_port};

/// Most servers of one client; each may have a connection of its own.
const MAX_TARGETS: usize = 16;

/// A server that a client dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTarget {
    /// Host name or address.
    pub host: String,
    /// The pipe's port.
    pub port: u16,
    /// The name to expect in its certificate.
    pub server_name: String,
    /// The proxy to it; absent: direct connection.
    pub proxy: Option<Proxy>,
}

impl ServerTarget {
    /// `HOST:PORT` or `[IPV6]:PORT`.
    pub fn address(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

/// Its address, and ` through PROXY` if there is one.
impl fmt::Display for ServerTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())?;
        self.proxy.as_ref().map_or(Ok(()), |proxy| write!(f, " through {proxy}"))
    }
}

impl ClientConfig {
    /// All servers, in order of preference.
    pub fn targets(&self) -> Vec<ServerTarget> {
        let first = ServerTarget {
            host: self.target_host.clone(),
            port: self.target_port,
            server_name: self.server_name.clone(),
            proxy: self.proxy.clone(),
        };
        std::iter::once(first).chain(self.further_targets.iter().cloned()).collect()
    }
}

/// What a client does with more than one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetMode {
    /// Keeps a pipe to the first that works, and returns to an earlier one that has recovered.
    #[default]
    Failover,
    /// Keeps a pipe to each; a request goes to the one with the fewest in flight.
    All,
}

/// Hosts, and ports if given.
pub(super) fn hosts(text: &str) -> Result<Vec<(String, Option<u16>)>, Expected> {
    let mut hosts = Vec::new();
    for part in text.split(',') {
        let host = host(part.trim())?;
        if hosts.contains(&host) {
            return Err(format!("each server once; {:?} is there twice", part.trim()));
        }
        hosts.push(host);
        if hosts.len() > MAX_TARGETS {
            return Err(format!("at most {MAX_TARGETS} servers"));
        }
    }
    Ok(hosts)
}

fn host(text: &str) -> Result<(String, Option<u16>), Expected> {
    // An IPv6 address contains colons, so it is tried first.
    if let Ok(host) = value::host(text) {
        return Ok((host, None));
    }
    let expected = || {
        "a host name or an IP address, with :PORT where it is not RP_CLIENT_TARGET_PORT ([IPV6]:PORT), \
         or several separated by commas"
            .to_owned()
    };
    let (host, port) = split_host_port(text).map_err(|_| expected())?;
    let host = value::host(host).map_err(|_| expected())?;
    Ok((host, Some(port.ok_or_else(expected)?)))
}

/// How to use several servers.
pub(super) fn mode(text: &str) -> Result<TargetMode, Expected> {
    match text {
        "failover" => Ok(TargetMode::Failover),
        "all" => Ok(TargetMode::All),
        _ => Err("failover or all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_have_ports_of_their_own() {
        let read = |text| hosts(text).unwrap();
        let plain = |host: &str| (host.to_owned(), None);
        let with = |host: &str, port| (host.to_owned(), Some(port));
        assert_eq!(read("hub"), [plain("hub")]);
        assert_eq!(read("::1"), [plain("::1")]);
        assert_eq!(
            read("a, b:2345,10.0.0.1:9,[::1]:7"),
            [plain("a"), with("b", 2345), with("10.0.0.1", 9), with("::1", 7)]
        );
        for bad in
            ["", "a,", ",a", "a,a", "a:0", "a:b", "a:65536", "[a]:1", "[::1]", "a:1:2", "a b"]
        {
            assert!(hosts(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("h{n}")).collect();
        assert_eq!(hosts(&many.join(",")).unwrap_err(), "at most 16 servers");
        assert_eq!(mode("all"), Ok(TargetMode::All));
        assert!(mode("both").is_err());
    }
}
