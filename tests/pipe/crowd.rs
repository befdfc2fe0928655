//! Crowds: callers whose answers must not be mixed up, more connections than available descriptors, and
//! an address that connects endlessly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::alone::alone;
use crate::support::{self, Identities, Node, PATIENCE, client, server};

/// Enough for both ends of a crowd of local connections.
const FILES: usize = 4096;

/// A caller that keeps its connection open.
struct Caller {
    socket: BufReader<TcpStream>,
}

impl Caller {
    fn new(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket: BufReader::new(socket) }
    }

    /// Sends `GET` and returns the body; the status must be 200.
    fn get(&mut self, path: &str) -> String {
        let (line, body) = self.ask(path);
        assert!(line.starts_with("HTTP/1.1 200 "), "{path}: {line:?}");
        body
    }

    /// Sends `GET` and returns the status line and the body.
    fn ask(&mut self, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.socket.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        let mut line = String::new();
        self.socket.read_line(&mut line).unwrap();
        let first = line.clone();
        while line != "\r\n" {
            line.clear();
            self.socket.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).unwrap();
        (first, String::from_utf8(body).unwrap())
    }
}

#[test]
fn every_one_of_400_callers_gets_its_own_answers() {
    if !alone("crowd::every_one_of_400_callers_gets_its_own_answers", FILES) {
        return;
    }
    const CALLERS: usize = 200;
    const REQUESTS: usize = 20;
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe()).start();
    server.get_when_up("/client/client-1/time");
    let directions =
        [(client.http(), "/server", "server"), (server.http(), "/client/client-1", "client")];
    let start = Barrier::new(2 * CALLERS);
    let began = Instant::now();
    thread::scope(|scope| {
        for (address, peer, side) in directions {
            for caller in 0..CALLERS {
                let start = &start;
                let builder = thread::Builder::new().stack_size(128 * 1024);
                let calls = move || {
                    let mut connection = Caller::new(address);
                    start.wait();
                    for number in 0..REQUESTS {
                        let own = format!("{side}-{caller}-{number}");
                        let body = connection.get(&format!("{peer}/cat//{own}"));
                        assert_eq!(body, format!("{{\"result_from_{side}\": \"{own}\"}}"));
                    }
                };
                builder.spawn_scoped(scope, calls).unwrap();
            }
        }
    });
    println!("{} requests in {:?}", 2 * CALLERS * REQUESTS, began.elapsed());
    for node in [&server, &client] {
        assert!(!node.log().iter().any(|line| line.contains("lost")), "{:#?}", node.log());
    }
}

/// Connections to each port of a node limited to 64 files.
const FLOOD: usize = 150;

/// Floods the ports, waits until both run out of descriptors, disconnects, and checks the log. Only a
/// server reports that it is not ready: a client's requests get through.
fn flood(node: &mut Node, ports: &[(SocketAddr, &str)]) {
    let began = Instant::now();
    let mut caller = Caller::new(node.http());
    caller.get("/readyz");
    let is_server = ports.len() == 2;
    let mut held = Vec::new();
    for (address, _) in ports {
        // The backlog holds those that are not accepted.
        held.extend((0..FLOOD).map(|_| TcpStream::connect(address).unwrap()));
    }
    for (_, name) in ports {
        let line = node.wait_log(&[&format!("{name}: accepting failed")]);
        assert!(line.contains("Too many open files"), "{line}");
    }
    assert!(node.runs());
    let (line, body) = caller.ask("/readyz");
    let expected = if is_server { "HTTP/1.1 503 " } else { "HTTP/1.1 200 " };
    assert!(line.starts_with(expected), "{line} {body}");
    // After several retries there is still one line per port.
    thread::sleep(Duration::from_secs(1));
    let took = began.elapsed();
    let most = 1 + took.as_secs() as usize / 10;
    for (_, name) in ports {
        let lines = node.log();
        let said = lines.iter().filter(|l| l.contains(&format!("{name}: accepting failed")));
        assert!(said.count() <= most, "in {took:?}: {lines:#?}");
    }
    drop(held);
    assert!(node.runs());
    support::scene::wait_until(|| {
        let (line, body) = caller.ask("/readyz");
        (!line.starts_with("HTTP/1.1 200 ")).then(|| line + &body)
    });
}

#[test]
fn a_server_out_of_files_survives_and_serves_again() {
    if !alone("crowd::a_server_out_of_files_survives_and_serves_again", FILES) {
        return;
    }
    let identities = Identities::new(&["client-1", "client-2"]);
    let mut server = Node::start(server(&identities).command_after("ulimit -n 64"));
    let first = client(&identities, "client-1", server.pipe()).start();
    first.get_when_up("/server/time");
    let ports = [(server.http(), "http"), (server.pipe(), "pipe")];
    flood(&mut server, &ports);
    server.get_when_up("/client/client-1/time");
    first.get_when_up("/server/time");
    // Its link stayed up.
    assert!(!first.log().iter().any(|line| line.contains("lost")), "{:#?}", first.log());
    let second = client(&identities, "client-2", server.pipe()).start();
    second.get_when_up("/server/time");
    server.get_when_up("/client/client-2/time");
}

#[test]
fn a_client_out_of_files_survives_and_serves_again() {
    if !alone("crowd::a_client_out_of_files_survives_and_serves_again", FILES) {
        return;
    }
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let setup = client(&identities, "client-1", server.pipe());
    let mut client = Node::start(setup.command_after("ulimit -n 64"));
    client.get_when_up("/server/time");
    let ports = [(client.http(), "http")];
    flood(&mut client, &ports);
    client.get_when_up("/server/time");
    server.get_when_up("/client/client-1/time");
}
