//! Connecting through a proxy: HTTP `CONNECT` (RFC 9110, section 9.3.6) and SOCKS5 (RFC 1928).
//!
//! In scope: the address of a proxy, which hosts are reached without one, and the exchange that
//! turns a connection to the proxy into one to the host. The proxy resolves the host's name. Not in
//! scope: the data on that connection, and the source of the settings.
//!
//! A proxy is not trusted: each of its responses is bounded, has a deadline and is escaped before
//! it is shown. User and password never appear in messages, logs or `Debug`.

mod credentials;
mod error;
mod exceptions;
mod exchange;
mod http;
mod socks5;

use std::fmt;
use std::net::TcpStream;
use std::time::Instant;

use super::address::{bracketed, split_host_port};
use super::connect::connect;
use super::resolve::Resolver;
use credentials::Credentials;
use error::ProxyError;
pub(crate) use exceptions::Exceptions;
use exchange::ProxyExchange;

/// A proxy: its protocol, address and credentials.
///
/// ```
/// use restpipe::Proxy;
///
/// let proxy: Proxy = "socks5://me:secret@proxy.example:1080".parse().unwrap();
/// assert_eq!(proxy.to_string(), "socks5://proxy.example:1080");
/// assert!(!format!("{proxy:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    scheme: Scheme,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Socks5,
}

impl Proxy {
    /// A description of what is accepted.
    pub const ACCEPTED: &'static str = "http://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ before the host where the \
         proxy asks for them (percent-encoded)";

    /// Connects to this host through the proxy.
    pub(crate) fn connect(
        &self,
        resolver: &Resolver,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, String> {
        let socket = self.reach(resolver, deadline)?;
        self.tunnel(&socket, host, port, deadline).map_err(|error| format!("{self}: {error}"))?;
        Ok(socket)
    }

    /// Connects to the proxy itself; [`Proxy::tunnel`] then opens the tunnel to a host.
    pub(crate) fn reach(
        &self,
        resolver: &Resolver,
        deadline: Instant,
    ) -> Result<TcpStream, String> {
        connect(resolver, &self.host, self.port, deadline)
            .map_err(|error| format!("the proxy {self}: {error}"))
    }

    /// Makes the proxy connect this blocking socket to a host, a name or an address without
    /// brackets. Reads no byte of the host's data, and leaves the socket without timeouts.
    pub(crate) fn tunnel(
        &self,
        socket: &TcpStream,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<(), ProxyError> {
        let mut exchange = ProxyExchange { socket, deadline };
        let credentials = self.credentials.as_ref();
        match self.scheme {
            Scheme::Http => http::tunnel(&mut exchange, credentials, host, port)?,
            Scheme::Socks5 => socks5::tunnel(&mut exchange, credentials, host, port)?,
        }
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        Ok(())
    }

    /// The proxy's own host, to resolve it separately.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl std::str::FromStr for Proxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or(Self::ACCEPTED)
    }
}

/// `[SCHEME://][USER[:PASSWORD]@]HOST[:PORT][/]`
fn parse(text: &str) -> Option<Proxy> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Scheme::Http, 80),
        // In curl, `h` means that the proxy resolves the name; here it always does.
        "socks5" | "socks5h" => (Scheme::Socks5, 1080),
        _ => return None,
    };
    let (credentials, address) = match rest.rsplit_once('@') {
        Some((credentials, address)) => (Some(Credentials::parse(credentials)?), address),
        None => (None, rest),
    };
    let address = address.strip_suffix('/').unwrap_or(address);
    let (host, port) = split_host_port(address).ok()?;
    if scheme == Scheme::Http
        && credentials.as_ref().is_some_and(|credentials| credentials.user.contains(&b':'))
    {
        // RFC 7617, section 2: a colon would end the user.
        return None;
    }
    let host = host.to_ascii_lowercase();
    Some(Proxy { scheme, host, port: port.unwrap_or(default_port), credentials })
}

/// Without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    /// The result with a proxy that takes `steps`: reads so many bytes, then sends these.
    pub(super) fn meet(
        text: &str,
        host: &str,
        steps: Vec<(usize, Vec<u8>)>,
    ) -> (Result<(), String>, Vec<u8>, TcpStream) {
        meet_within(Duration::from_secs(10), text, host, steps)
    }

    pub(super) fn meet_within(
        time: Duration,
        text: &str,
        host: &str,
        steps: Vec<(usize, Vec<u8>)>,
    ) -> (Result<(), String>, Vec<u8>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (hold, held) = crossbeam_channel::bounded::<()>(0);
        let other = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut heard = Vec::new();
                let ends = steps.last().is_some_and(|(_, says)| says == b"END");
                for (count, says) in steps {
                    let mut bytes = vec![0; count];
                    socket.read_exact(&mut bytes).unwrap();
                    heard.extend(bytes);
                    if says != b"END" {
                        socket.write_all(&says).unwrap();
                    }
                }
                if !ends {
                    let _ = held.recv_timeout(Duration::from_secs(20));
                }
                heard
            })
            .unwrap();
        let socket = TcpStream::connect(address).unwrap();
        let result = proxy(text).tunnel(&socket, host, 1234, Instant::now() + time);
        drop(hold);
        (result.map_err(|error| error.to_string()), other.join().unwrap(), socket)
    }

    #[test]
    fn addresses_are_read_and_nothing_of_a_password_is_shown() {
        for (text, shown) in [
            ("http://p:3128", "http://p:3128"),
            ("P/", "http://p:80"),
            ("socks5h://[::1]", "socks5://[::1]:1080"),
            ("socks5://SECRET:SECRET@10.0.0.1:9/", "socks5://10.0.0.1:9"),
            ("HTTP://SECRET:SEC@RET@p", "http://p:80"),
        ] {
            let proxy = proxy(text);
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(format!("{proxy:?}"), format!("Proxy({shown})"));
        }
        let long = format!("http://{}:x@p", "u".repeat(256));
        for wrong in [
            "",
            "https://p",
            "http://",
            "http://p:0",
            "http://p:99999",
            "http://a b",
            "http://:p@h",
            "http://a%3ab:p@h",
            "http://a%0d%0aX:p@h",
            "ftp://p",
            "http://p/path",
            "http://::1",
            &long,
        ] {
            assert_eq!(wrong.parse::<Proxy>(), Err(Proxy::ACCEPTED), "{wrong}");
        }
    }

    #[test]
    fn a_proxy_that_stalls_costs_the_time_that_was_given() {
        for (text, count, says) in
            [("http://p:1", 63, &b"HTTP/1.1 2"[..]), ("socks5://p:1", 3, b"\x05")]
        {
            let began = Instant::now();
            let time = Duration::from_millis(200);
            let steps = vec![(count, says.to_vec())];
            let (result, _, _) = meet_within(time, text, "pipe.example", steps);
            assert_eq!(result.unwrap_err(), "the proxy did not answer in time");
            assert!(began.elapsed() >= time);
        }
    }
}
