//! TCP connections over the pipe: in both directions, with half-close and reset, alongside events.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::port::accept;
use crate::support::sshd::Sshd;
use crate::support::{Identities, Node, PATIENCE, SSH, client, has_all, server};

/// A server that reads all input and returns it reversed; it runs until the process ends.
fn reversing() -> SocketAddr {
    serve(|mut socket| {
        let mut said = Vec::new();
        socket.read_to_end(&mut said).unwrap();
        said.reverse();
        socket.write_all(&said).unwrap();
    })
}

fn serve(answer: impl Fn(TcpStream) + Send + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            thread::spawn(move || answer(socket));
        }
    });
    address
}

/// A server and a client, each with the target `t` at this address and a port for the other's.
struct Nodes {
    _identities: Identities,
    server: Node,
    client: Node,
}

impl Nodes {
    fn start(target: SocketAddr, more: &[(&str, &str)]) -> Self {
        let identities = Identities::new(&["web1"]);
        let mut server = server(&identities)
            .set("RP_TCP_TARGETS", format!("t={target}"))
            .set("RP_TCP_LISTEN", "127.0.0.1:0=web1/t,127.0.0.1:0=web1/none");
        for (name, value) in more {
            server = server.set(name, value);
        }
        let server = server.start();
        let mut client = client(&identities, "web1", server.pipe())
            .set("RP_TCP_TARGETS", format!("t={target}"))
            .set("RP_TCP_LISTEN", "127.0.0.1:0=server/t");
        for (name, value) in more {
            client = client.set(name, value);
        }
        let client = client.start();
        client.get_when_up("/server/time");
        Self { _identities: identities, server, client }
    }

    /// The ports that lead to the other side's target.
    fn ports(&self) -> [SocketAddr; 2] {
        [port(&self.server), port(&self.client)]
    }
}

/// The first port of the ready line.
fn port(node: &Node) -> SocketAddr {
    node.ready("tcp").parse().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[test]
fn a_connection_is_carried_whole_and_half_closed_both_ways_round() {
    let nodes = Nodes::start(reversing(), &[]);
    for port in nodes.ports() {
        for length in [0, 1, 16_384, 65_537, 3_000_000] {
            let said = noise(length);
            let mut socket = connect(port);
            socket.write_all(&said).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).unwrap();
            heard.reverse();
            assert!(heard == said, "{length} bytes, {} came back", heard.len());
        }
    }
}

#[test]
fn a_program_connects_through_the_local_port() {
    let nodes = Nodes::start(reversing(), &[]);
    let said = noise(1_000_000);
    for (node, name) in [(&nodes.client, "server/t"), (&nodes.server, "web1/t")] {
        let mut program = rp_tcp(node, name).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = program.stdin.take().unwrap();
        let to_say = said.clone();
        let saying = thread::spawn(move || input.write_all(&to_say).unwrap());
        let output = program.wait_with_output().unwrap();
        saying.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut heard = output.stdout;
        heard.reverse();
        assert!(heard == said, "{name}: {} came back", heard.len());
    }
    let refused = rp_tcp(&nodes.client, "server/none").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let words = "rp_tcp: server/none: there is no target \"none\" here; RP_TCP_TARGETS of this side names them\n";
    assert_eq!(text, words, "no escape stays");
}

fn rp_tcp(node: &Node, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rp_tcp"));
    command.args(["--http", &node.http().to_string(), name]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_reset_is_carried_and_is_no_end() {
    let resetting = serve(|mut socket| {
        let mut some = [0; 1000];
        socket.read_exact(&mut some).unwrap();
        socket.write_all(&some).unwrap();
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let nodes = Nodes::start(resetting, &[]);
    for port in nodes.ports() {
        let mut socket = connect(port);
        socket.write_all(&[7; 1000]).unwrap();
        let mut heard = Vec::new();
        let ended = socket.read_to_end(&mut heard);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_caller_that_resets_is_reset_at_the_target() {
    let (tell, told) = crossbeam_channel::unbounded();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let ended = io::copy(&mut socket, &mut io::sink());
            tell.send(ended.map_err(|error| error.kind())).unwrap();
        }
    });
    let nodes = Nodes::start(target, &[]);
    for port in nodes.ports() {
        let mut socket = connect(port);
        socket.write_all(&[7; 100_000]).unwrap();
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(socket);
        let ended = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ended.unwrap_err(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn what_cannot_be_served_is_closed_with_one_line_that_says_why() {
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let nodes = Nodes::start(dead, &[]);
    let began = Instant::now();
    for port in nodes.ports() {
        assert_refused(port);
    }
    nodes.server.wait_log(&["web1/t: a connection was not tunnelled: ", "cannot be reached: "]);
    nodes.client.wait_log(&["server/t: a connection was not tunnelled: ", "cannot be reached: "]);
    nodes.client.wait_log(&["no connection to t at ", "refused"]);
    // No such target; it is the second port.
    let second = nodes.server.ready_all("tcp")[1].parse().unwrap();
    assert_refused(second);
    nodes.server.wait_log(&["web1/none: a connection was not tunnelled: there is no such target; RP_TCP_TARGETS of the other side"]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

fn assert_refused(port: SocketAddr) {
    let mut heard = Vec::new();
    let ended = connect(port).read_to_end(&mut heard);
    assert!(ended.is_err() || heard.is_empty());
}

#[test]
fn nothing_is_reachable_that_rules_do_not_name() {
    let target = reversing();
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&rules, "allow web1 get *\nallow server get *\n").unwrap();
    let path = rules.path().to_str().unwrap();
    let nodes = Nodes::start(target, &[("RP_RULES_FILE", path)]);
    assert_refused(port(&nodes.client));
    nodes.client.wait_log(&["server/t: a connection was not tunnelled: ", "rules"]);
    std::fs::write(&rules, "allow web1 get *\nallow web1 connect t\n").unwrap();
    nodes.server.signal("HUP");
    nodes.server.wait_log(&["rules"]);
    let until = Instant::now() + PATIENCE;
    loop {
        let mut socket = connect(port(&nodes.client));
        let mut heard = Vec::new();
        let said = socket.write_all(b"abc").and_then(|()| socket.shutdown(Shutdown::Write));
        if said.is_ok() && socket.read_to_end(&mut heard).is_ok() && heard == b"cba" {
            break;
        }
        assert!(Instant::now() < until, "still refused");
    }
}

#[test]
fn a_connection_may_be_silent_for_longer_than_a_reply() {
    let echoing = serve(|socket| {
        let _ = io::copy(&mut &socket, &mut &socket);
    });
    let nodes = Nodes::start(echoing, &[("RP_REPLY_TIMEOUT_S", "0.2")]);
    for port in nodes.ports() {
        let mut socket = connect(port);
        for word in [b"one", b"two"] {
            socket.write_all(word).unwrap();
            let mut heard = [0; 3];
            socket.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, word);
            // Events time out meanwhile.
            thread::sleep(Duration::from_millis(700));
        }
    }
}

#[test]
fn a_connection_waits_for_a_peer_that_is_away() {
    let target = reversing();
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).set("RP_TCP_LISTEN", "127.0.0.1:0=web1/t").start();
    // Once, so that its name is known.
    let dial =
        || client(&identities, "web1", server.pipe()).set("RP_TCP_TARGETS", format!("t={target}"));
    let mut first = dial().start();
    first.get_when_up("/server/time");
    first.signal("TERM");
    first.wait_exit();
    let mut socket = connect(port(&server));
    socket.write_all(b"abc").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let _client = dial().start();
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"cba");
}

#[test]
fn a_stalled_connection_holds_up_neither_another_nor_an_event() {
    let pouring = serve(|mut socket| while socket.write_all(&[0; 65_536]).is_ok() {});
    let nodes = Nodes::start(pouring, &[]);
    let [stalled, other] = nodes.ports().map(connect);
    for (port, node, path) in [
        (nodes.ports()[0], &nodes.server, "/client/web1/time"),
        (nodes.ports()[1], &nodes.client, "/server/time"),
    ] {
        let mut reading = connect(port);
        let mut bytes = vec![0; 20_000_000];
        reading.read_exact(&mut bytes).unwrap();
        assert_eq!(node.get(path).status, 200);
    }
    drop((stalled, other));
}

#[test]
fn openssh_has_a_session_and_copies_a_gibibyte() {
    if !has_all(&SSH) {
        return;
    }
    let sshd = Sshd::start();
    let nodes = Nodes::start(SocketAddr::from(([127, 0, 0, 1], sshd.port())), &[]);
    let program = env!("CARGO_BIN_EXE_rp_tcp");
    let there = format!("{program} --http {} server/t", nodes.client.http());
    let back = format!("{program} --http {} web1/t", nodes.server.http());
    sshd.assert_session(&there);
    sshd.assert_session(&back);
    sshd.assert_gibibyte(&there);
}

/// Whether the connection ends with a reset, whatever arrives before.
fn is_reset(socket: &mut TcpStream) -> bool {
    let ended = socket.read_to_end(&mut Vec::new());
    ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// A connection that asks a node's HTTP port for the target of a peer, after its 101.
fn upgraded(node: &Node, target: &str) -> TcpStream {
    let mut socket = connect(node.http());
    let head = format!(
        "GET /{target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    socket
}

/// `rp_tcp` that has passed on half of its input, and its target's end of the connection.
fn half_sent() -> (Nodes, Child, TcpStream) {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let nodes = Nodes::start(target.local_addr().unwrap(), &[]);
    let mut program = rp_tcp(&nodes.client, "server/t").stdin(Stdio::piped()).spawn().unwrap();
    program.stdin.as_mut().unwrap().write_all(b"half").unwrap();
    let mut far = accept(&target);
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    far.read_exact(&mut [0; 4]).unwrap();
    (nodes, program, far)
}

#[test]
fn a_killed_rp_tcp_leaves_no_connection_that_seems_to_have_ended() {
    let (_nodes, mut program, mut far) = half_sent();
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(is_reset(&mut far));
}

#[test]
fn a_target_that_answers_before_the_end_of_the_input_does_not_take_it_for_whole() {
    let (_nodes, mut program, mut far) = half_sent();
    far.write_all(b"enough").unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    // Its input stays open.
    let mut answer = Vec::new();
    program.stdout.as_mut().unwrap().read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"enough");
    assert!(program.wait().unwrap().success());
    assert!(is_reset(&mut far));
}

#[test]
fn a_node_that_ends_leaves_no_connection_that_seems_to_have_ended() {
    let cases = [("server", "KILL"), ("client", "KILL"), ("server", "TERM"), ("client", "TERM")];
    for (ended, signal) in cases {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let nodes = Nodes::start(target.local_addr().unwrap(), &[("RP_DRAIN_S", "0")]);
        let ports = nodes.ports().map(connect);
        let mut ends = Vec::from(ports);
        ends.push(upgraded(&nodes.server, "client/web1/t"));
        ends.push(upgraded(&nodes.client, "server/t"));
        for end in &mut ends {
            end.write_all(b"half").unwrap();
        }
        for _ in 0..ends.len() {
            let mut far = accept(&target);
            far.set_read_timeout(Some(PATIENCE)).unwrap();
            far.read_exact(&mut [0; 4]).unwrap();
            far.write_all(b"and half").unwrap();
            ends.push(far);
        }
        for end in &mut ends[..4] {
            end.read_exact(&mut [0; 8]).unwrap();
        }
        let node = if ended == "server" { &nodes.server } else { &nodes.client };
        node.signal(signal);
        for (at, end) in ends.iter_mut().enumerate() {
            assert!(is_reset(end), "{signal} to the {ended}: {at}");
        }
    }
}
