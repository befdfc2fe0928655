//! Counts and timings for statsd, under the names of the original, by UDP.
//!
//! A mark is counted in memory, which takes a fraction of a microsecond, and a thread of its own sends
//! what has come together ten times a second: one packet costs more than what it counts. Of a timing
//! that comes more often than 32 times in between, 32 are sent, chosen by chance, with the rate that
//! statsd scales by (`|@0.1`). A statsd that is not there costs nothing.
//!
//! In scope: names, the wire format, the socket. Not in scope: where the marks are made.

mod tally;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::config;
use crate::metrics::meter::{Mark, Meter};
use crate::sync::threads;
use tally::Tally;

/// How often what was counted is sent.
const SEND_INTERVAL: Duration = Duration::from_millis(100);
/// How long an address is used before its name is looked up again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);
/// How long ending waits for the last packets.
const FINISH_TIMEOUT: Duration = Duration::from_millis(200);
/// Most bytes of a packet: what crosses an Ethernet in one piece.
const MAX_PACKET: usize = 1432;

/// Counts, and has the thread that sends.
pub struct StatsdSender {
    counting: Arc<Counting>,
    /// Dropped to end the thread.
    running: Mutex<Option<Sender<()>>>,
    /// Disconnects when the thread has ended.
    ended: Receiver<()>,
}

#[derive(Default)]
struct Counting {
    /// Guards what was counted since the last packets. Held to add a number and to take all of them
    /// away, never while anything is sent.
    tally: Mutex<Tally>,
}

impl StatsdSender {
    /// Starts the thread. The host's name is looked up there.
    pub fn start(target: &config::Statsd) -> io::Result<Self> {
        let counting = Arc::new(Counting::default());
        let (running, stopped) = bounded(0);
        let (alive, ended) = bounded(0);
        let mut sender = PacketSender {
            counting: Arc::clone(&counting),
            target: target.clone(),
            socket: None,
            warned: false,
        };
        threads::spawn("statsd", move || {
            let _alive = alive;
            sender.run(&stopped);
        })?;
        Ok(Self { counting, running: Mutex::new(Some(running)), ended })
    }

    /// Sends what is left, and ends. What is counted later goes nowhere.
    pub fn finish(&self) {
        let mut running = self.running.lock();
        if running.take().is_some() {
            // Not in time: it looks up a name, and ends when that has ended.
            let _ = self.ended.recv_timeout(FINISH_TIMEOUT);
        }
    }
}

impl Meter for StatsdSender {
    fn mark(&self, mark: Mark<'_>) {
        self.counting.tally.lock().add(mark);
    }
}

/// What the thread has.
struct PacketSender {
    counting: Arc<Counting>,
    target: config::Statsd,
    /// Absent: not looked up yet, or the lookup failed.
    socket: Option<UdpSocket>,
    /// Whether the log has said that there is no address.
    warned: bool,
}

impl PacketSender {
    fn run(&mut self, stopped: &Receiver<()>) {
        let mut names = Vec::new();
        let mut resolved: Option<Instant> = None;
        loop {
            if resolved.is_none_or(|resolved| resolved.elapsed() >= RESOLVE_INTERVAL) {
                self.resolve();
                resolved = Some(Instant::now());
            }
            let stopping = stopped.recv_timeout(SEND_INTERVAL) != Err(RecvTimeoutError::Timeout);
            let sums = self.counting.tally.lock().take(&mut names);
            if let Some(socket) = &self.socket {
                let mut packet = Packet { socket, text: String::with_capacity(MAX_PACKET) };
                sums.lines(&names, |line| packet.push(line));
                packet.send();
            }
            if stopping {
                return;
            }
        }
    }

    /// Looks up the name. Where that fails, an earlier address stays.
    fn resolve(&mut self) {
        let config::Statsd { host, port } = &self.target;
        match connect(host, *port) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.warned = false;
            }
            Err(error) => {
                if !self.warned {
                    log::warn!("statsd: {host}:{port} cannot be sent to, for now: {error}");
                }
                self.warned = true;
            }
        }
    }
}

/// A socket that sends there and never waits. Where a name has addresses of both kinds it is the
/// IPv4 one, which is where statsd listens by default.
fn connect(host: &str, port: u16) -> io::Result<UdpSocket> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
    let own: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own)?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    Ok(socket)
}

/// Lines that travel together.
struct Packet<'a> {
    socket: &'a UdpSocket,
    text: String,
}

impl Packet<'_> {
    fn push(&mut self, line: &str) {
        if !self.text.is_empty() {
            if self.text.len() + 1 + line.len() > MAX_PACKET {
                self.send();
            } else {
                self.text.push('\n');
            }
        }
        self.text.push_str(line);
    }

    fn send(&mut self) {
        if !self.text.is_empty() {
            // Nobody there, or no room: statsd loses numbers, and nobody waits for it.
            let _ = self.socket.send(self.text.as_bytes());
            self.text.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen() -> (UdpSocket, config::Statsd) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, config::Statsd { host: "localhost".to_owned(), port })
    }

    fn packet(socket: &UdpSocket) -> String {
        let mut buffer = [0; 65_536];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_was_counted_arrives_also_at_the_end() {
        let (socket, target) = listen();
        let statsd = StatsdSender::start(&target).unwrap();
        statsd.mark(Mark::Dialling);
        assert_eq!(packet(&socket), "client.connect.new.tick:1|c");
        statsd.mark(Mark::Lost);
        statsd.finish();
        assert_eq!(packet(&socket), "client.connect.broken.tick:1|c");
    }

    #[test]
    fn packets_are_filled_with_whole_lines() {
        let (socket, target) = listen();
        let statsd = StatsdSender::start(&target).unwrap();
        let took = Duration::ZERO;
        for number in 0..200 {
            statsd.mark(Mark::Handled { method: &format!("get_{number}"), code: 0, took });
        }
        statsd.finish();
        let mut ticks = 0;
        while ticks < 200 {
            let packet = packet(&socket);
            assert!(packet.len() <= MAX_PACKET);
            for line in packet.split('\n') {
                assert!(line.ends_with("|c") || line.ends_with("|ms") || line.contains("|ms|@"));
                ticks += usize::from(line.ends_with(".tick:1|c"));
            }
        }
    }

    #[test]
    fn a_name_without_an_address_ends_as_any_other() {
        let target = config::Statsd { host: "no.such.name.invalid".to_owned(), port: 1 };
        let statsd = StatsdSender::start(&target).unwrap();
        statsd.mark(Mark::Asking);
        statsd.finish();
    }
}
