//! A TCP connection to a host.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::resolve::Resolver;
use crate::sync::deadline::time_left;

/// The minimum share of the time for each of a host's addresses.
const MIN_ATTEMPT_TIME: Duration = Duration::from_secs(1);

/// Tries the addresses of a host one after another. The error has the reason for each.
pub(crate) fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
    deadline: Instant,
) -> Result<TcpStream, String> {
    let left = || time_left(deadline);
    let addresses = resolver.resolve(host, left()).map_err(not_resolved)?;
    let mut reasons = Vec::new();
    for (at, ip) in addresses.iter().enumerate() {
        let address = SocketAddr::new(*ip, port);
        let share = left() / (addresses.len() - at).try_into().unwrap_or(u32::MAX);
        let share = share.max(MIN_ATTEMPT_TIME.min(left()));
        if share.is_zero() {
            reasons.push(format!("{address}: no time left"));
            break;
        }
        // No Nagle delay: small writes are waiting for a response.
        let connected = TcpStream::connect_timeout(&address, share)
            .and_then(|socket| socket.set_nodelay(true).map(|()| socket));
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    Err(reasons.join("; "))
}

/// The message for a failed lookup.
fn not_resolved(error: io::Error) -> String {
    format!("the name does not resolve: {error}")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_closed_port_is_named_and_an_open_one_is_reached() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let resolver = Resolver::default();
        let soon = || Instant::now() + Duration::from_secs(10);
        let socket = connect(&resolver, "localhost", port, soon()).unwrap();
        assert!(socket.nodelay().unwrap());
        drop(listener);
        let error = connect(&resolver, "127.0.0.1", port, soon()).unwrap_err();
        assert!(error.contains(&format!("127.0.0.1:{port}: ")), "{error}");
        let error = connect(&resolver, "no-such-name.invalid", port, soon()).unwrap_err();
        assert!(error.starts_with("the name does not resolve: "), "{error}");
        let error = connect(&resolver, "127.0.0.1", port, Instant::now()).unwrap_err();
        assert!(error.ends_with("no time left"), "{error}");
    }
}
