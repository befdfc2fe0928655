//! Stopping: requests in flight are finished, in bounded time, and the peer gets a proper close.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use restpipe::handler::Router;

use crate::support::inside::{Door, Gate, timed};
use crate::support::message::{EVENT, HEARTBEAT, HEARTBEAT_REPLY, REPLY, event, message};
use crate::support::peer::Peer;
use crate::support::port::free_port;
use crate::support::tls::dialing;
use crate::support::{self, Answer, Identities, Node, client, server};

fn slow(door: Door) -> Router {
    Router::new().on("post_slow", move |_, _| {
        door.pass();
        Ok("done")
    })
}

fn assert_refused(address: SocketAddr) {
    // Either nobody listens, or the connection is closed without a response.
    if let Ok(mut socket) = TcpStream::connect(address) {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let read = socket.read(&mut [0; 1]);
        assert!(!matches!(read, Ok(1..)), "{address} still serves: {read:?}");
        assert!(
            !read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
            "{address} still accepts"
        );
    }
}

/// Sends a request to `node` in the background, stops it with `signal` while the handler runs, and
/// returns the answer.
fn stop_while_asked(node: &mut Node, path: &str, gate: Gate, signal: &str) -> Answer {
    let http = node.http();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| support::ask(http, "POST", path, &[], b"x"));
        gate.wait();
        let before = node.log().len();
        node.signal(signal);
        node.wait_log_from(before, &["stopping after", &format!("SIG{signal}")]);
        // The line is logged first, right before the ports are closed.
        let until = Instant::now() + support::PATIENCE;
        while TcpStream::connect(http).is_ok() {
            assert!(Instant::now() < until, "the port stays open");
        }
        assert!(node.runs(), "it did not wait for the request");
        drop(gate);
        asking.join().unwrap()
    })
}

#[test]
fn a_stopping_server_finishes_what_its_callers_asked() {
    for signal in ["TERM", "INT"] {
        let identities = Identities::new(&["client-1"]);
        let mut server = server(&identities).start();
        let (gate, door) = Gate::new();
        let _client = client(&identities, "client-1", server.pipe()).dial(slow(door));
        let answer = stop_while_asked(&mut server, "/client/localhost/slow", gate, signal);
        assert_eq!((answer.status, answer.text()), (200, "done"));
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(server.wait_exit().code(), Some(0), "after SIG{signal}");
        assert_refused(server.pipe());
    }
}

#[test]
fn a_stopping_client_finishes_what_its_callers_asked() {
    for signal in ["TERM", "INT"] {
        let identities = Identities::new(&["client-1"]);
        let (gate, door) = Gate::new();
        let server = server(&identities).serve(slow(door));
        let mut client = client(&identities, "client-1", server.pipe()).start();
        let answer = stop_while_asked(&mut client, "/server/slow", gate, signal);
        assert_eq!((answer.status, answer.text()), (200, "done"));
        assert_eq!(client.wait_exit().code(), Some(0), "after SIG{signal}");
    }
}

#[test]
fn a_stopping_node_finishes_what_its_peer_asked() {
    let identities = Identities::new(&["client-1"]);
    let (gate, door) = Gate::new();
    let server = server(&identities).serve(slow(door));
    let client = client(&identities, "client-1", server.pipe()).start();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.ask("POST", "/server/slow", &[], b"x"));
        gate.wait();
        let stopping = scope.spawn(|| timed(|| server.stop(Duration::from_secs(10))));
        // From about here on, a request is refused, not lost.
        let until = Instant::now() + support::PATIENCE;
        let late = loop {
            let late = client.ask("GET", "/server/time", &[("RP-Wait", "0")], b"");
            if late.status != 404 {
                break late;
            }
            assert!(Instant::now() < until, "it does not stop");
        };
        assert_eq!(late.status, 503, "{late:?}");
        assert!(late.header("Retry-After").is_some());
        drop(gate);
        assert_eq!(asking.join().unwrap().text(), "done");
        let ((), took) = stopping.join().unwrap();
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    let line = client.wait_log(&["lost:"]);
    assert!(line.contains("closed by the peer"), "{line}");
}

#[test]
fn the_drain_is_bounded() {
    let identities = Identities::new(&["client-1"]);
    let mut server = server(&identities).set("RP_DRAIN_S", 1).start();
    let (gate, door) = Gate::new();
    let _client = client(&identities, "client-1", server.pipe()).dial(slow(door));
    let http = server.http();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut socket = TcpStream::connect(http).unwrap();
            let text = b"POST /client/localhost/slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
            socket.write_all(text).unwrap();
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()
        });
        gate.wait();
        let (status, took) = timed(|| {
            server.signal("TERM");
            server.wait_exit()
        });
        println!("ended {took:?} after the signal, with a drain of 1 s");
        assert_eq!(status.code(), Some(0));
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(6), "{took:?}");
        let answer = asking.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 502 "), "its caller is told: {answer}");
        drop(gate);
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let identities = Identities::new(&["client-1"]);
    let mut server = server(&identities).set("RP_DRAIN_S", 600).start();
    let (gate, door) = Gate::new();
    let _client = client(&identities, "client-1", server.pipe()).dial(slow(door));
    let http = server.http();
    // Not in a scope: its answer never arrives.
    let asking = std::thread::spawn(move || {
        let mut socket = TcpStream::connect(http).unwrap();
        let text = b"POST /client/localhost/slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(text).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    gate.wait();
    server.signal("TERM");
    server.wait_log(&["stopping after SIGTERM"]);
    let (status, took) = timed(|| {
        server.signal("INT");
        server.wait_exit()
    });
    assert_eq!(status.signal(), Some(2), "{status}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    asking.join().unwrap();
}

#[test]
fn an_idle_node_stops_quickly_and_its_peer_sees_a_proper_close() {
    let identities = Identities::new(&["client-1"]);
    let setup = server(&identities).set("BIND_PORT", free_port());
    let mut first = setup.start();
    let mut client = client(&identities, "client-1", first.pipe()).set("DEBUG", 1).start();
    client.get_when_up("/server/time");
    let (status, took) = timed(|| {
        first.signal("TERM");
        first.wait_exit()
    });
    assert_eq!(status.code(), Some(0));
    println!("server: ended after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let line = client.wait_log(&["lost:"]);
    assert!(line.contains("closed by the peer"), "{line}");

    let second = setup.start();
    client.get_when_up("/server/time");
    let (status, took) = timed(|| {
        client.signal("TERM");
        client.wait_exit()
    });
    assert_eq!(status.code(), Some(0));
    println!("client: ended after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let line = second.wait_log(&["client-1: lost"]);
    assert!(line.contains("closed by the peer"), "{line}");
    client.wait_log(&["stopped"]);
    let log = client.log();
    let stopping = log.iter().position(|line| line.contains("stopping after")).unwrap();
    assert!(!log[stopping..].iter().any(|line| line.contains("dialling")), "{log:#?}");
}

#[test]
fn a_client_without_its_server_stops_quickly_and_its_callers_are_told() {
    let identities = Identities::new(&["client-1"]);
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut client = client(&identities, "client-1", nobody.local_addr().unwrap()).start();
    let http = client.http();
    std::thread::scope(|scope| {
        // On a connection that is already served: one that waits to be accepted is refused.
        let mut socket = TcpStream::connect(http).unwrap();
        socket.write_all(b"HEAD /first HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        read_head(&mut socket);
        let text = b"GET /server/time HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        socket.write_all(text).unwrap();
        let waiting = scope.spawn(move || {
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            support::parse_answer(&answer)
        });
        let (status, took) = timed(|| {
            client.signal("TERM");
            client.wait_exit()
        });
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(5), "{took:?}");
        let answer = waiting.join().unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("stopping")));
    });
}

/// Of many callers at once, some are in the accept queue when the node stops, some have just
/// connected, and some wait for a client.
#[test]
fn every_caller_that_is_connected_gets_an_answer_from_a_stopping_node() {
    const CALLERS: usize = 300;
    let identities = Identities::new(&["client-1"]);
    let mut server = server(&identities).set("RP_SERVER_LOOKUP_HOSTS", "no.such.invalid").start();
    // It accepts nothing for now.
    server.signal("STOP");
    let mut callers: Vec<TcpStream> =
        (0..CALLERS).map(|_| TcpStream::connect(server.http()).unwrap()).collect();
    let names = ["client-1", "localhost", "127.0.0.9", "no.such.invalid", "away"];
    for (caller, name) in callers.iter_mut().zip(names.iter().cycle()) {
        let text = format!("GET /client/{name}/time HTTP/1.1\r\nHost: localhost\r\n\r\n");
        caller.write_all(text.as_bytes()).unwrap();
        caller.set_read_timeout(Some(support::PATIENCE)).unwrap();
    }
    server.signal("TERM");
    server.signal("CONT");
    assert_eq!(server.wait_exit().code(), Some(0));
    for (number, caller) in callers.iter_mut().enumerate() {
        let mut answer = Vec::new();
        let read = caller.read_to_end(&mut answer);
        assert!(read.is_ok() && !answer.is_empty(), "caller {number}: {read:?}");
        let answer = support::parse_answer(&answer);
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(["stopping", "unknown_peer"].contains(&error.as_str()), "{answer:?}");
    }
}

/// Reads an answer without a body.
fn read_head(socket: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

#[test]
fn the_socket_file_goes_with_the_node() {
    let identities = Identities::new(&["client-1"]);
    let path = identities.path("server.sock");
    let bind = format!("unix:{}", path.display());
    let mut server = server(&identities).set("RP_SERVER_HTTP_BIND", &bind).start();
    assert_eq!(server.ready("http"), bind);
    assert!(path.exists());
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(!path.exists());
}

/// A heartbeat that announces all extensions.
const EXTENDED: &[u8] = &[8, 1, 0x80, 1, 7];
/// The tag of `leaving_ms`.
const LEAVING: [u8; 2] = [0xd8, 1];
/// A heartbeat with `settled`.
const SETTLED: &[u8] = &[8, 1, 0xe0, 1, 1];

/// A server that has announced its stop to this client, and the thread that waits for its end.
fn leaving(drain: Duration) -> (Peer, std::thread::JoinHandle<Duration>) {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).serve(Router::new().on("get_it", |_, _| Ok("got")));
    let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, "web1")))).unwrap();
    peer.send(&message(HEARTBEAT, 7, EXTENDED)).unwrap();
    assert_eq!(peer.frame_of(HEARTBEAT_REPLY).id, 7);
    let stopping = std::thread::spawn(move || timed(|| server.stop(drain)).1);
    let frame = peer.frame_of(HEARTBEAT_REPLY);
    assert_eq!((&frame.body[..2], &frame.body[2..4]), (&[8, 1][..], &LEAVING[..]));
    (peer, stopping)
}

#[test]
fn what_was_on_its_way_to_a_stopping_node_is_handled_and_then_it_closes_at_once() {
    let (mut peer, stopping) = leaving(Duration::from_secs(15));
    peer.send(&event(1_000_000_001, "get", "it", b"")).unwrap();
    let reply = peer.frame_of(REPLY);
    assert!(reply.body.windows(3).any(|three| three == b"got"), "{reply:02x?}");
    peer.send(&message(HEARTBEAT, 8, SETTLED)).unwrap();
    peer.wait_end();
    let took = stopping.join().unwrap();
    assert!(took < Duration::from_secs(10), "it waited for the drain: {took:?}");
}

#[test]
fn a_peer_that_does_not_answer_or_goes_on_asking_delays_the_end_by_the_drain_at_most() {
    let (mut peer, stopping) = leaving(Duration::from_secs(1));
    for id in 0..20 {
        peer.send(&event(1_000_000_000 + id, "get", "it", b"")).unwrap();
        assert_eq!(peer.frame_of(REPLY).kind, REPLY);
    }
    peer.wait_end();
    let took = stopping.join().unwrap();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn words_of_an_end_that_nobody_has_asked_for_do_no_harm() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).serve(Router::new().on("get_it", |_, _| Ok("got")));
    let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, "web1")))).unwrap();
    peer.send(&message(HEARTBEAT, 7, EXTENDED)).unwrap();
    assert_eq!(peer.frame_of(HEARTBEAT_REPLY).id, 7);
    // Repeatedly: `settled` for a node that stays, and `leaving_ms` with the largest value.
    let mut leaves = [8, 1].to_vec();
    leaves.extend_from_slice(&LEAVING);
    leaves.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    for body in [SETTLED, &leaves, SETTLED, &leaves] {
        peer.send(&message(HEARTBEAT, 8, body)).unwrap();
    }
    let answer = peer.frame_of(HEARTBEAT_REPLY);
    assert_eq!(answer.body, SETTLED, "once: nothing of the server's was in flight");
    peer.send(&event(1_000_000_001, "get", "it", b"")).unwrap();
    assert_eq!(peer.frame_of(REPLY).id, 1_000_000_001);
    // It gets no more requests.
    let answer = server.ask("GET", "/client/web1/it", &[("RP-Wait", "0")], b"");
    assert_eq!(answer.status, 503);
    assert_ne!(peer.frame_within(Duration::from_millis(100)).map(|frame| frame.kind), Some(EVENT));
}
