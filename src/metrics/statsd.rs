//! Counts and timings for statsd over UDP, under the names of the original.
//!
//! Marks are counted in memory, which takes a fraction of a microsecond, and a separate thread
//! sends the sums ten times a second, since one packet costs more than what it counts. Of a timing
//! with more than 32 values per interval, 32 random ones are sent with the sample rate by which
//! statsd scales (`|@0.1`). An unreachable statsd costs nothing.
//!
//! In scope: names, the wire format, the socket. Not in scope: where marks come from.

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

/// How often the counts are sent.
const SEND_INTERVAL: Duration = Duration::from_millis(100);
/// How long an address is used before its name is resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);
/// How long stopping waits for the last packets.
const FINISH_TIMEOUT: Duration = Duration::from_millis(200);
/// Most bytes of a packet: it fits an Ethernet frame.
const MAX_PACKET: usize = 1432;

/// Counts marks, and owns the sending thread.
pub struct StatsdSender {
    counting: Arc<Counting>,
    /// Dropped to stop the thread.
    running: Mutex<Option<Sender<()>>>,
    /// Disconnects when the thread has ended.
    ended: Receiver<()>,
}

#[derive(Default)]
struct Counting {
    /// Guards the counts since the last packets. Never held across I/O.
    tally: Mutex<Tally>,
}

impl StatsdSender {
    /// Starts the thread, which also resolves the host's name.
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

    /// Sends the rest and stops. Later marks are dropped.
    pub fn finish(&self) {
        let mut running = self.running.lock();
        if running.take().is_some() {
            // On a timeout the thread is resolving a name, and ends afterwards.
            let _ = self.ended.recv_timeout(FINISH_TIMEOUT);
        }
    }
}

impl Meter for StatsdSender {
    fn mark(&self, mark: Mark<'_>) {
        self.counting.tally.lock().add(mark);
    }
}

/// The state of the thread.
struct PacketSender {
    counting: Arc<Counting>,
    target: config::Statsd,
    /// Absent: not resolved yet, or the lookup failed.
    socket: Option<UdpSocket>,
    /// Whether the missing address was logged.
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

    /// Resolves the name. On failure an earlier address stays in use.
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

/// A non-blocking socket connected to it. If a name has both kinds of addresses, IPv4 is used, on
/// which statsd listens by default.
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

/// Lines that are sent together.
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
            // No listener or a full buffer: statsd is lossy.
            let _ = self.socket.send(self.text.as_bytes());
            self.text.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::meter::HandledMethod;

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
            let method = format!("get_{number}");
            statsd.mark(Mark::Handled { method: HandledMethod::Known(&method), code: 0, took });
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
