//! Who holds a port that is in use: a node of ours, systemd, or which process.
//!
//! In scope: finding out, in words. Not in scope: whether a port is in use (`net::accept`).

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use super::sleeping::{overlap, sleeping_service};
use crate::config::{Address, Bind};
use crate::net::accept::BindError;
use crate::net::dial::Resolver;
use crate::sync::deadline::time_left;

/// How long the holder of a port may take to identify itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of its answer.
const MAX_ANSWER: usize = 4096;
/// A path that no node has, so that its error identifies it.
const QUESTION: &[u8] = b"GET /check HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A failure to listen, with the variable that sets the port and who holds it.
pub fn bind_failure(error: &BindError, variable: &str) -> String {
    match error.is_in_use() {
        true => format!("{error}, by {}; {variable} sets it", describe(error.address())),
        false => format!("{error}; {variable} sets it"),
    }
}

/// Who listens at this address.
pub(super) fn describe(bind: &Bind) -> String {
    if let Some(service) = sleeping_service(bind) {
        return format!("systemd, which holds it for {service}");
    }
    let who: Vec<String> = node(bind).map(str::to_owned).into_iter().chain(process(bind)).collect();
    match who[..] {
        [] => "another program (as root, `ss -ltnpx` shows which)".to_owned(),
        _ => format!("another program: {}", who.join(", ")),
    }
}

/// Which port of a node it is, if it is one.
fn node(bind: &Bind) -> Option<&'static str> {
    let answer = answer(bind)?;
    let known = [
        ("no such path; this is a server", "the local HTTP port of a RestPipe server"),
        ("no such path; this is a client", "the local HTTP port of a RestPipe client"),
        ("the pipe port of a RestPipe server", "the pipe port of a RestPipe server"),
    ];
    known.iter().find(|(words, _)| answer.contains(words)).map(|(_, port)| *port)
}

/// Whether the listener answers an unknown path with these words.
pub(super) fn says(bind: &Bind, words: &str) -> bool {
    answer(bind).is_some_and(|answer| answer.contains(words))
}

fn answer(bind: &Bind) -> Option<String> {
    let address = match bind {
        Bind::Tcp(address) => Address::Tcp(address.ip().to_string(), address.port()),
        Bind::Unix(path) => Address::Unix(path.clone()),
    };
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut socket = address.connect(&Resolver::default(), deadline).ok()?;
    socket.set_write_timeout(Some(ANSWER_TIMEOUT)).ok()?;
    socket.write_all(QUESTION).ok()?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    // On a timeout, decide by what was received.
    while answer.len() < MAX_ANSWER
        && let left = time_left(deadline)
        && !left.is_zero()
        && socket.set_read_timeout(Some(left)).is_ok()
        && let Ok(count @ 1..) = socket.read(&mut part)
    {
        answer.extend_from_slice(&part[..count]);
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// The process that listens there, as far as this user may know.
fn process(bind: &Bind) -> Option<String> {
    let inode = match bind {
        Bind::Tcp(address) => ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .find_map(|table| {
                table.lines().find_map(|line| tcp_inode(line, *address).map(str::to_owned))
            }),
        Bind::Unix(path) => {
            let table = fs::read_to_string("/proc/net/unix").ok()?;
            table.lines().find_map(|line| unix_inode(line, path).map(str::to_owned))
        }
    }?;
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let has_it = fs::read_dir(entry.path().join("fd")).ok()?.flatten().any(|open| {
            fs::read_link(open.path()).is_ok_and(|to| to.as_os_str() == socket.as_str())
        });
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        has_it.then(|| format!("{} (process {pid})", name.trim_end().escape_debug()))
    })
}

/// The inode of a listening socket at this address, from a line of `/proc/net/tcp` or `tcp6`
/// (proc(5)): number, local and remote address, state, four more, inode.
fn tcp_inode(line: &str, address: SocketAddr) -> Option<&str> {
    const LISTENING: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = words.get(1)?.split_once(':')?;
    let there = SocketAddr::new(hex_address(ip)?, u16::from_str_radix(port, 16).ok()?);
    (*words.get(3)? == LISTENING && overlap(address, there)).then(|| words.get(9).copied())?
}

/// An address as words of 32 bits, each in the byte order of the machine.
fn hex_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok();
    let bytes = |at: usize| word(at).map(u32::to_ne_bytes);
    match text.len() {
        8 => bytes(0).map(|v4| Ipv4Addr::from(v4).into()),
        32 => {
            let words = [bytes(0)?, bytes(1)?, bytes(2)?, bytes(3)?];
            let v6 = <[u8; 16]>::try_from(words.concat()).ok()?;
            Some(Ipv6Addr::from(v6).into())
        }
        _ => None,
    }
}

/// The inode of a listening socket with this path, from a line of `/proc/net/unix`.
fn unix_inode<'a>(line: &'a str, path: &Path) -> Option<&'a str> {
    /// `__SO_ACCEPTCON`
    const LISTENING: &str = "00010000";
    let mut words = line.splitn(8, ' ').filter(|word| !word.is_empty());
    let (flags, inode, found) = (words.nth(3)?, words.nth(2)?, words.next()?);
    (flags == LISTENING && Path::new(found) == path).then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn one_that_never_stops_talking_is_not_heard_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = Bind::Tcp(listener.local_addr().unwrap());
        let talker = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            // Fails once the reader has closed.
            while socket.write_all(b"-").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let began = Instant::now();
        assert!(!says(&bind, "words"));
        // All of MAX_ANSWER would take minutes.
        assert!(began.elapsed() < 10 * ANSWER_TIMEOUT);
        talker.join().unwrap();
    }

    #[test]
    fn the_process_that_listens_is_found() {
        let me = format!("(process {})", std::process::id());
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let bind = Bind::Tcp(listener.local_addr().unwrap());
            let found = process(&bind).unwrap();
            assert!(found.ends_with(&me), "{address}: {found}");
            drop(listener);
            assert_eq!(process(&bind), None, "{address}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(process(&Bind::Unix(path)).unwrap().ends_with(&me));
        for wrong in ["", "x", "0: 0100007F 0 0A", "0: 0100007F:0050"] {
            assert_eq!(tcp_inode(wrong, ([127, 0, 0, 1], 80).into()), None, "{wrong}");
        }
    }
}
