//! Ports for programs that cannot report which one they took, for servers that return to theirs, and for
//! addresses where nobody listens; and connections to a port of the test's own.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// The lowest port that is allocated here.
const FIRST: u16 = 10_000;

/// A free loopback port outside the kernel's ephemeral range: no other socket gets it, and no connection to
/// it connects to itself, before a server listens there.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let end = first_of_the_kernel();
    // Other test processes allocate ports at the same time.
    let next = NEXT.get_or_init(|| AtomicU16::new(fastrand::u16(FIRST..end)));
    for _ in FIRST..end {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % (end - FIRST);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {end}");
}

/// As [`free_port`], with loopback's address.
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// The start of the kernel's ephemeral range.
fn first_of_the_kernel() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    // If that range was widened, a port that was free a moment ago must do.
    first.unwrap_or(32_768).max(FIRST + 10_000)
}

/// Accepts a connection within `PATIENCE`.
pub fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).unwrap();
                return socket;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < until, "nobody came");
        std::thread::sleep(Duration::from_millis(2));
    }
}
