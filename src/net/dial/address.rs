//! The address of a server on this side of the pipe.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, Type};

use super::connect::connect;
use super::resolve::Resolver;
use crate::net::bind::MAX_SOCKET_PATH;
use crate::sync::deadline::time_left;

/// Longest host name (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 255;

/// `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP: a host name or an IP address without brackets, and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A description of what is accepted.
    pub const ACCEPTED: &'static str =
        "HOST:PORT, such as 127.0.0.1:22, or unix: and the path of a socket";

    /// Connects to it. The error says why this failed.
    pub(crate) fn connect(&self, resolver: &Resolver, deadline: Instant) -> Result<Socket, String> {
        match self {
            Self::Tcp(host, port) => connect(resolver, host, *port, deadline).map(Socket::from),
            Self::Unix(path) => {
                let connected = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
                    // While the server's queue is full, connecting blocks for as long as the write
                    // timeout.
                    socket.set_write_timeout(Some(time_left(deadline)))?;
                    socket.connect(&SockAddr::unix(path)?)?;
                    socket.set_write_timeout(None)?;
                    Ok(socket)
                });
                connected.map_err(|error| error.to_string())
            }
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or(Self::ACCEPTED)
    }
}

fn parse(text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        let fits =
            (1..=MAX_SOCKET_PATH).contains(&path.len()) && !path.chars().any(char::is_control);
        return fits.then(|| Address::Unix(path.into()));
    }
    let (host, port) = split_host_port(text).ok()?;
    Some(Address::Tcp(host.to_owned(), port?))
}

/// Host and port of `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`, the host without brackets. The error
/// says what is wrong.
pub(crate) fn split_host_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err("what stands in brackets is no IPv6 address");
            }
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("")) })
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("an IPv6 address stands in brackets");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || host.len() > MAX_HOST || !host.bytes().all(is_name) {
        return Err("the host is no name and no IP address");
    }
    let number = |port: &str| {
        let is_decimal = port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse().ok().filter(|number| is_decimal && *number > 0)
    };
    let port = port.map(|port| number(port).ok_or("the port is no number from 1 to 65535"));
    Ok((host, port.transpose()?))
}

/// A host as written before a colon and a port.
pub(crate) fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') { format!("[{host}]").into() } else { host.into() }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{}:{port}", bracketed(host)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["127.0.0.1:22", "[::1]:22", "db.local:5432", "unix:/run/pg.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["", "22", "host", "host:", "host:0", "::1:22", "[a]:1", "a:+1", "unix:", &long]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
