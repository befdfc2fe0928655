//! A node under attack beside a well-behaved peer, and the state it must return to.

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::peer::Peer;
use super::tls::dialing;
use super::{Identities, Node, PATIENCE, client, server};

/// What a node may retain after an attack, in kB: the allocator returns memory late.
pub const KEPT_KB: u64 = 16 * 1024;
/// Handler threads stay for ten seconds; a table of attacks does not wait for that after each one.
pub const KEPT_THREADS: u64 = 8;
/// The largest body in the tests that fill queues.
pub const SMALL_BODY: usize = 1 << 20;

/// A server and a well-behaved client, with a baseline measured before the attack.
pub struct Scene {
    pub identities: Identities,
    pub server: Node,
    pub client: Node,
    pub memory: u64,
    pub threads: u64,
}

impl Scene {
    /// With bodies of at most [`SMALL_BODY`] where queues are to fill.
    pub fn new(small: bool) -> Self {
        let identities = Identities::new(&["good", "hostile"]);
        let body = if small { SMALL_BODY } else { 16 * SMALL_BODY };
        Self::of(identities, "RP_MAX_BODY_BYTES", body)
    }

    /// With one setting of the server changed.
    pub fn with(name: &str, value: usize) -> Self {
        Self::of(Identities::new(&["good", "hostile"]), name, value)
    }

    fn of(identities: Identities, name: &str, value: usize) -> Self {
        let server = server(&identities).set(name, value).start();
        let client = client(&identities, "good", server.pipe()).start();
        client.get_when_up("/server/time");
        let mut scene = Self { identities, server, client, memory: 0, threads: 0 };
        scene.assert_served();
        scene.memory = scene.server.status_number("VmRSS");
        scene.threads = scene.server.status_number("Threads");
        scene
    }

    /// Connects as the client `hostile`.
    pub fn hostile(&self) -> Peer {
        Peer::dial(self.server.pipe(), dialing(Some((&self.identities, "hostile")))).unwrap()
    }

    /// As [`Scene::hostile`], with the smallest receive buffer.
    pub fn hostile_with_small_buffer(&self) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.server.pipe().into()).unwrap();
        let config = dialing(Some((&self.identities, "hostile")));
        Peer::over(socket.into(), config).unwrap()
    }

    /// Requests between the server and the well-behaved client work both ways.
    pub fn assert_served(&self) {
        let asked = Instant::now();
        assert_eq!(self.client.get("/server/time").status, 200);
        assert_eq!(self.server.get("/client/good/time").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    }

    /// After the attack: the log from line `skip` on has one line about the end, with this reason,
    /// and the node is back at its baseline.
    pub fn assert_recovered(&mut self, skip: usize, reason: &str) {
        self.server.wait_log_from(skip, &[reason]);
        assert!(self.server.runs());
        self.assert_served();
        self.assert_threads(KEPT_THREADS);
        wait_until(|| {
            let memory = self.server.status_number("VmRSS");
            (memory > self.memory + KEPT_KB).then(|| format!("{memory} kB, was {}", self.memory))
        });
        assert_one_end(&self.server, skip, reason);
    }

    /// At most this many threads more than before, now or soon.
    pub fn assert_threads(&self, more: u64) {
        wait_until(|| {
            let threads = self.server.status_number("Threads");
            let most = self.threads + more;
            (threads > most).then(|| format!("{threads} threads, were {}", self.threads))
        });
    }
}

/// Waits until `wrong` returns `None`.
pub fn wait_until(mut wrong: impl FnMut() -> Option<String>) {
    let until = Instant::now() + PATIENCE;
    while let Some(what) = wrong() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Exactly one line reports a refusal or a loss, with this reason.
pub fn assert_one_end(node: &Node, skip: usize, reason: &str) {
    let lines = node.log().split_off(skip);
    // The local port logs its refusals, too.
    let others = [": connected from", ": connected to", " http: "];
    let is_end = |line: &&String| !others.iter().any(|other| line.contains(other));
    let ends: Vec<&String> = lines.iter().filter(is_end).collect();
    assert!(
        ends.len() == 1 && ends[0].contains(reason),
        "not one line with {reason:?}: {lines:#?}"
    );
}

/// Waits until the other side has closed, with a deadline.
pub fn read_to_end(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    match socket.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("not closed"),
        _ => {}
    }
}

/// Ten seconds have passed, give or take what a busy machine needs.
pub fn assert_ten_seconds(time: Duration) {
    assert!((9000..15_000).contains(&time.as_millis()), "closed after {time:?}");
}
