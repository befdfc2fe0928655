//! Ports for programs that cannot say which one they took, for servers that come back to theirs, and where
//! nobody is to listen.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The lowest port that is given out here.
const FIRST: u16 = 10_000;

/// A free port of loopback. It is none of those that the kernel gives away by itself, so that no other socket
/// gets it, and no connection to it meets itself, before somebody listens there.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let end = first_of_the_kernel();
    // Other test processes look for ports at the same time.
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

/// Where the ports begin that the kernel gives away by itself.
fn first_of_the_kernel() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    // Where somebody has widened that range, being free a moment ago has to do.
    first.unwrap_or(32_768).max(FIRST + 10_000)
}
