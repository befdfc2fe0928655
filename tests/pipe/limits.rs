//! What a request may cost, whatever happens to the links that it is sent on: how often it is sent,
//! how long it takes, and what its caller is told in the end.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use restpipe::event::Reply;
use restpipe::handler::Router;

use crate::support::inside::{Gate, timed};
use crate::support::message::{EVENT, HEARTBEAT, HEARTBEAT_REPLY, heartbeat, message, reply};
use crate::support::peer::Peer;
use crate::support::relay::Relay;
use crate::support::scene::wait_until;
use crate::support::tls::dialing;
use crate::support::{Answer, Identities, Node, PATIENCE, ask, client, server};

/// A heartbeat that says that its sender closes its older connection itself.
const TAKES_OVER: &[u8] = &[8, 1, 0xc0, 1, 1];

/// A connected client `web1` that the server has taken in.
fn connect(identities: &Identities, server: &Node) -> Peer {
    connect_with(identities, server, &heartbeat(1))
}

fn connect_with(identities: &Identities, server: &Node, heartbeat: &[u8]) -> Peer {
    let mut peer = Peer::dial(server.pipe(), dialing(Some((identities, "web1")))).unwrap();
    peer.send(heartbeat).unwrap();
    assert_eq!(peer.frame_of(HEARTBEAT_REPLY).id, 1);
    peer
}

/// Asks for `/client/web1/job` and says when the answer is there.
fn asking<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    server: &'scope Node,
    wait: &'static str,
    answered: &'scope AtomicBool,
) -> thread::ScopedJoinHandle<'scope, (Answer, Duration)> {
    scope.spawn(move || {
        let answer =
            timed(|| ask(server.http(), "GET", "/client/web1/job", &[("RP-Wait", wait)], b""));
        answered.store(true, Ordering::SeqCst);
        answer
    })
}

/// Until this many requests wait for peers.
fn wait_for_waiting(server: &Node, count: u64) {
    wait_until(|| {
        let status = server.get("/status").json();
        let found = status["waiting_for_peers"].as_u64().unwrap();
        (found != count).then(|| format!("{found} wait, not {count}"))
    });
}

fn assert_unknown(answer: &Answer) {
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(answer.json()["error"], "outcome_unknown");
}

#[test]
fn a_request_that_loses_each_link_is_sent_a_few_times_and_no_more() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let mut peer = connect(&identities, &server);
    let answered = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = asking(scope, &server, "0", &answered);
        let mut sent = 0;
        while !answered.load(Ordering::SeqCst) && sent < 20 {
            if peer.frame_within(Duration::from_millis(20)).is_some_and(|frame| frame.kind == EVENT)
            {
                sent += 1;
                // The new connection takes over, and the old one is lost with the request.
                peer = connect(&identities, &server);
            }
        }
        let (answer, took) = asking.join().unwrap();
        assert_eq!(sent, 3, "{answer:?}");
        assert_unknown(&answer);
        assert!(took < PATIENCE, "{took:?}");
    });
    // The next request finds the client as it is.
    let answered = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = asking(scope, &server, "0", &answered);
        let id = peer.frame_of(EVENT).id;
        peer.send(&reply(id, "a/b", 0, b"done")).unwrap();
        assert_eq!(asking.join().unwrap().0.text(), "done");
    });
}

/// Asked for by address: the first client of that address is meant, also once it has gone.
#[test]
fn a_request_is_not_sent_again_to_another_client_of_the_same_address() {
    let identities = Identities::new(&["web1", "other"]);
    let server = server(&identities).start();
    let mut peer = connect(&identities, &server);
    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(server.http(), "GET", "/client/127.0.0.1/job", &[], b""));
        assert_eq!(peer.frame_of(EVENT).kind, EVENT);
        let mut other = Peer::dial(server.pipe(), dialing(Some((&identities, "other")))).unwrap();
        other.send(&heartbeat(1)).unwrap();
        assert_eq!(other.frame_of(HEARTBEAT_REPLY).id, 1);
        drop(peer);
        server.wait_log(&["web1: lost"]);
        let frame = other.frame_within(Duration::from_millis(300));
        assert_eq!(frame.map(|frame| frame.kind), None);
        let mut peer = connect(&identities, &server);
        let id = peer.frame_of(EVENT).id;
        peer.send(&reply(id, "a/b", 0, b"by web1")).unwrap();
        assert_eq!(asking.join().unwrap().text(), "by web1");
    });
}

#[test]
fn the_reply_time_is_one_for_all_sendings() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).set("RP_REPLY_TIMEOUT_S", 4).start();
    let mut peer = connect(&identities, &server);
    let answered = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = asking(scope, &server, "20", &answered);
        assert_eq!(peer.frame_of(EVENT).kind, EVENT);
        thread::sleep(Duration::from_secs(3));
        let mut peer = connect(&identities, &server);
        assert_eq!(peer.frame_of(EVENT).kind, EVENT, "it is sent again");
        let (answer, took) = asking.join().unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (504, Some("no_reply")));
        println!("504 after {took:?}, asked for 4 s");
        assert!(took >= Duration::from_millis(3900) && took < Duration::from_millis(6500));
    });
}

#[test]
fn nothing_is_sent_again_for_a_caller_that_has_left() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let mut peer = connect(&identities, &server);
    for _ in 0..3 {
        let mut caller = TcpStream::connect(server.http()).unwrap();
        caller.write_all(b"GET /client/web1/job HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(peer.frame_of(EVENT).kind, EVENT);
        // The caller leaves, and at once the link is lost.
        drop(caller);
        peer = connect(&identities, &server);
        let frame = peer.frame_within(Duration::from_millis(300));
        assert_eq!(frame.map(|frame| frame.kind), None);
    }
}

/// A caller sends this while the peer is away, and leaves: nothing is sent when the peer is back.
fn waits_only_while_it_is_there(request: &[u8]) {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).set("RP_CONNECTION_WAIT_S", 600).start();
    drop(connect(&identities, &server));
    server.wait_log(&["web1: lost"]);
    let mut caller = TcpStream::connect(server.http()).unwrap();
    caller.write_all(request).unwrap();
    wait_for_waiting(&server, 1);
    drop(caller);
    wait_for_waiting(&server, 0);
    let mut peer = connect(&identities, &server);
    let frame = peer.frame_within(Duration::from_millis(300));
    assert_eq!(frame.map(|frame| frame.kind), None);
}

#[test]
fn a_caller_that_leaves_while_it_waits_for_a_peer_waits_no_longer() {
    waits_only_while_it_is_there(b"POST /client/web1/job HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

/// The body streams: most of it has not been read.
#[test]
fn a_caller_that_leaves_with_its_body_half_read_waits_no_longer() {
    let head =
        "POST /client/web1/job HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    waits_only_while_it_is_there(&[head.as_bytes(), &[b'x'; 100_000]].concat());
}

#[test]
fn a_peer_that_is_busy_when_it_is_asked_again_does_not_unsay_the_first_time() {
    let identities = Identities::new(&["client-1"]);
    let (gate, door) = Gate::new();
    let runs = AtomicUsize::new(0);
    let router = Router::new().on("get_job", move |_, _| {
        if runs.fetch_add(1, Ordering::SeqCst) == 0 {
            door.pass();
        }
        Ok(Reply::busy("later"))
    });
    let server = server(&identities).serve(router);
    let relay = Relay::to(server.pipe());
    let client = client(&identities, "client-1", relay.address()).dial(Router::new());
    thread::scope(|scope| {
        let asking = scope.spawn(|| client.get("/server/job"));
        gate.wait();
        relay.cut();
        assert_unknown(&asking.join().unwrap());
    });
    drop(gate);
    assert_eq!(client.get("/server/job").status, 503);
}

/// The request is written to the first connection. On the second, which takes nothing, it only waits
/// to be written.
#[test]
fn a_request_that_was_written_once_is_not_said_to_be_unsent_later() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let mut first = connect(&identities, &server);
    let answered = AtomicBool::new(false);
    let unsent = |least: u64| {
        wait_until(|| {
            let metrics = server.get("/metrics");
            let is_meant = |line: &&str| line.starts_with("restpipe_unsent_messages ");
            let line = metrics.text().lines().find(is_meant);
            let found: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
            (found < least as f64).then(|| format!("{found} unsent, not {least}"))
        });
    };
    let large = vec![b'x'; 12 << 20];
    thread::scope(|scope| {
        let asking = asking(scope, &server, "1", &answered);
        assert_eq!(first.frame_of(EVENT).kind, EVENT);
        let second = connect_with(&identities, &server, &message(HEARTBEAT, 1, TAKES_OVER));
        let fill = || ask(server.http(), "POST", "/client/web1/job", &[("RP-Wait", "0")], &large);
        let filling: Vec<_> = (0..3).map(|_| scope.spawn(fill)).collect();
        // More than the sockets hold is being written.
        unsent(2);
        drop(first);
        unsent(3);
        drop(second);
        let (answer, took) = asking.join().unwrap();
        assert_unknown(&answer);
        assert!(took < PATIENCE, "{took:?}");
        for filled in filling {
            let status = filled.join().unwrap().status;
            assert!([502, 503].contains(&status), "{status}");
        }
    });
}

/// The same where the node stops instead.
#[test]
fn a_request_that_was_written_once_is_not_said_to_be_unsent_by_a_stopping_node() {
    let identities = Identities::new(&["web1"]);
    let mut server = server(&identities).start();
    let mut peer = connect(&identities, &server);
    let http = server.http();
    let asking = thread::spawn(move || ask(http, "GET", "/client/web1/job", &[], b""));
    assert_eq!(peer.frame_of(EVENT).kind, EVENT);
    drop(peer);
    server.wait_log(&["web1: lost"]);
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_unknown(&asking.join().unwrap());
    assert!(began.elapsed() < PATIENCE);
}
