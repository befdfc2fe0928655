//! A node under attack beside a well-behaved peer, and what must be true afterwards.

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::peer::Peer;
use super::tls::dialing;
use super::{Identities, Node, PATIENCE, client, server};

/// What a node may keep of what an attack made it take, in kB: the allocator gives back late.
pub const KEPT_KB: u64 = 16 * 1024;
/// Threads that handlers were started on stay for ten seconds; a table of attacks does not wait for
/// that after each.
pub const KEPT_THREADS: u64 = 8;
/// The largest body in the tests that let queues fill.
pub const SMALL_BODY: usize = 1 << 20;

/// A server and a well-behaved client, measured while they are well.
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

    /// With one setting of the server's.
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

    /// As [`Scene::hostile`], with room for next to nothing that it does not read.
    pub fn hostile_with_small_buffer(&self) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.server.pipe().into()).unwrap();
        let config = dialing(Some((&self.identities, "hostile")));
        Peer::over(socket.into(), config).unwrap()
    }

    /// The well-behaved client asks and is asked.
    pub fn assert_served(&self) {
        let asked = Instant::now();
        assert_eq!(self.client.get("/server/time").status, 200);
        assert_eq!(self.server.get("/client/good/time").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    }

    /// After the harm: the log from line `skip` on has one line of an end, with this reason, and
    /// all is as before.
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

    /// There are as many threads as before, or will be, but for this many.
    pub fn assert_threads(&self, more: u64) {
        wait_until(|| {
            let threads = self.server.status_number("Threads");
            let most = self.threads + more;
            (threads > most).then(|| format!("{threads} threads, were {}", self.threads))
        });
    }
}

/// Waits until `wrong` has nothing to say any more.
pub fn wait_until(mut wrong: impl FnMut() -> Option<String>) {
    let until = Instant::now() + PATIENCE;
    while let Some(what) = wrong() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// One line says that somebody was refused or lost, and it says why.
pub fn assert_one_end(node: &Node, skip: usize, reason: &str) {
    let lines = node.log().split_off(skip);
    // The local port speaks of what it refuses, too.
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

/// A time of ten seconds has passed, as far as a busy machine can tell.
pub fn assert_ten_seconds(time: Duration) {
    assert!((9000..15_000).contains(&time.as_millis()), "closed after {time:?}");
}
