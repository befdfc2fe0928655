//! Finding a peer: by name, by address, and waiting for an absent one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use restpipe::handler::Router;
use serde_json::json;

use crate::support::alone::alone;
use crate::support::inside::timed;
use crate::support::port::{free_address, free_port};
use crate::support::{Answer, Identities, PATIENCE, client, parse_answer, server};

/// Slack for "at once" on a busy machine.
const SOON: Duration = Duration::from_secs(3);

fn assert_away(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let seconds: u32 = answer.header("Retry-After").expect("no Retry-After").parse().unwrap();
    assert!(seconds > 0);
    assert_eq!(answer.json()["error"], "peer_away");
    assert!(answer.json()["message"].is_string());
}

/// After the start, a name may be that of a client that has not come back yet; it is no host's.
#[test]
fn an_unknown_name_is_waited_for_soon_after_the_start() {
    let identities = Identities::new(&["other"]);
    let server = server(&identities).start();
    let other = Router::new().on("post_job", |_, _| Ok("by another client"));
    let _other = client(&identities, "other", server.pipe()).dial(other);
    assert_eq!(server.ask("POST", "/client/other/job", &[], b"").status, 200);
    // The system resolves the last one to the other client's address.
    for name in ["no-such-client.invalid", "a%2Db.invalid", "%C3%A9.invalid", "127.1"] {
        let wait = [("RP-Wait", "0.3")];
        let ask = || server.ask("POST", &format!("/client/{name}/job"), &wait, b"");
        let (answer, took) = timed(ask);
        assert_away(&answer);
        assert!(took >= Duration::from_millis(290) && took < SOON, "{took:?}");
    }
}

#[test]
fn a_restarted_server_waits_for_the_clients_that_it_had() {
    let identities = Identities::new(&["client-1"]);
    let setup = server(&identities).set("BIND_PORT", free_port());
    let mut node = setup.start();
    let _client = client(&identities, "client-1", node.pipe()).start();
    node.get_when_up("/client/client-1/time");
    for signal in ["TERM", "KILL", "TERM"] {
        node.signal(signal);
        node.wait_exit();
        node = setup.start();
        // At once: the client has not come back yet.
        let answer = node.get("/client/client-1/time");
        assert_eq!(answer.status, 200, "after SIG{signal}: {answer:?}");
    }
}

#[test]
fn a_name_that_was_a_clients_means_no_other_client() {
    let identities = Identities::new(&["127.0.0.1", "other"]);
    let server = server(&identities).start();
    let named = |name: &'static str| Router::new().on("get_name", move |_, _| Ok(name));
    let gone = client(&identities, "127.0.0.1", server.pipe()).dial(named("127.0.0.1"));
    assert_eq!(server.get("/client/127.0.0.1/name").text(), "127.0.0.1");
    let _other = client(&identities, "other", server.pipe()).dial(named("other"));
    assert_eq!(server.get("/client/other/name").text(), "other");
    assert_eq!(server.get("/client/127.0.0.1/name").text(), "127.0.0.1");
    drop(gone);
    server.wait_log(&["127.0.0.1: lost"]);
    assert_away(&server.ask("GET", "/client/127.0.0.1/name", &[("RP-Wait", "0")], b""));
    assert_eq!(server.get("/client/localhost/name").text(), "other");
}

/// The names of hosts that the operator allows are looked up.
#[test]
fn a_host_is_found_by_name_where_the_operator_allows_it() {
    let identities = Identities::new(&["client-1"]);
    let name = "ip6-localhost";
    let resolves = std::net::ToSocketAddrs::to_socket_addrs(&(name, 0)).is_ok();
    let on = |bind| server(&identities).set("BIND_IP", bind).set("RP_SERVER_LOOKUP_HOSTS", name);
    let server = on("::1").start();
    let _client = client(&identities, "client-1", server.pipe()).start();
    server.get_when_up("/client/client-1/time");
    let answer = server.ask("GET", &format!("/client/{name}/time"), &[("RP-Wait", "1")], b"");
    assert_eq!(answer.status, if resolves { 200 } else { 503 }, "{answer:?}");
}

#[test]
fn a_peer_that_stays_away_is_503_after_the_wait() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).set("RP_CONNECTION_WAIT_S", "0.5").start();
    let client_1 = client(&identities, "client-1", server.pipe()).start();
    server.get_when_up("/client/client-1/time");
    drop(client_1);
    server.wait_log(&["client-1: lost"]);
    // Nobody listens there, and nobody else can as long as this test holds the port.
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let alone = client(&identities, "client-1", nobody.local_addr().unwrap());
    let alone = alone.set("RP_CONNECTION_WAIT_S", "0.5").start();

    // By name, by an address without a connection, and from the client.
    for (asker, path) in [
        (&server, "/client/client-1/time"),
        (&server, "/client/127.0.0.9/time"),
        (&server, "/client/localhost/time"),
        (&alone, "/server/time"),
    ] {
        let (answer, took) = timed(|| asker.get(path));
        assert_away(&answer);
        println!("{path}: 503 after {took:?}, asked for 500 ms");
        assert!(took >= Duration::from_millis(490) && took < SOON, "{path}: {took:?}");
        let (answer, took) = timed(|| asker.ask("GET", path, &[("RP-Wait", "0")], b""));
        assert_away(&answer);
        println!("{path}: 503 after {took:?}, asked for none");
        assert!(took < Duration::from_millis(490), "{path}: {took:?}");
        // A caller may shorten its wait, but not extend it indefinitely.
        let (answer, took) = timed(|| asker.ask("GET", path, &[("RP-Wait", "soon")], b""));
        assert_eq!(answer.status, 400, "{answer:?} after {took:?}");
    }
}

#[test]
fn a_waiting_request_is_answered_when_the_peer_comes() {
    let identities = Identities::new(&["client-1"]);
    let first = server(&identities).start();
    let pipe = first.pipe();
    std::thread::scope(|scope| {
        // The client has never connected: its address names it.
        let waiting = scope.spawn(|| timed(|| first.get("/client/localhost/time")));
        let client = client(&identities, "client-1", pipe).start();
        let (answer, took) = waiting.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        println!("answered after {took:?}");
        drop(client);
    });
    drop(first);

    // The same from the client, whose server starts later.
    let early = client(&identities, "client-1", pipe).start();
    early.wait_log(&["not connected"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| timed(|| early.get("/server/time")));
        let _late = server(&identities).set("BIND_PORT", pipe.port()).start();
        let (answer, took) = waiting.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        println!("answered after {took:?}");
    });
}

#[test]
fn two_clients_of_one_address_are_told_apart_by_name() {
    let identities = Identities::new(&["client-b", "client-a"]);
    let server = server(&identities).start();
    let name = |name: &'static str| Router::new().on("get_name", move |_, _| Ok(name));
    let _b = client(&identities, "client-b", server.pipe()).dial(name("I am b"));
    server.get_when_up("/client/client-b/name");
    for one in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "LOCALHOST"] {
        let answer = server.get(&format!("/client/{one}/name"));
        assert_eq!((answer.status, answer.text()), (200, "I am b"), "{one}");
    }
    let _a = client(&identities, "client-a", server.pipe()).dial(name("I am a"));
    server.get_when_up("/client/client-a/name");
    for both in ["localhost", "127.0.0.1"] {
        let (answer, took) = timed(|| server.get(&format!("/client/{both}/name")));
        assert_eq!(answer.status, 409, "{answer:?}");
        assert_eq!(answer.json()["error"], "ambiguous_peer");
        assert_eq!(answer.json()["names"], json!(["client-a", "client-b"]));
        assert!(answer.json()["message"].as_str().unwrap().contains("client-a, client-b"));
        assert!(took < SOON, "{took:?}");
    }
    assert_eq!(server.get("/client/client-a/name").text(), "I am a");
    assert_eq!(server.get("/client/Client-B/name").text(), "I am b");
}

#[test]
fn any_number_of_clients_of_one_host_are_reached_by_name() {
    let names = ["one", "two.example.com", "three", "four", "five"];
    let identities = Identities::new(&names);
    let server = server(&identities)
        .serve(Router::new().on("get_who", |context, _| Ok(context.peer.name.clone())));
    let clients = names.map(|name| {
        let router = Router::new().on("get_name", move |_, _| Ok(name));
        client(&identities, name, server.pipe()).dial(router)
    });
    for _ in 0..3 {
        for (name, client) in names.iter().zip(&clients) {
            // The other direction first: it waits until this client has connected.
            assert_eq!(client.get("/server/who").text(), *name);
            assert_eq!(server.get(&format!("/client/{name}/name")).text(), *name);
        }
    }
}

#[test]
fn the_1025th_waiting_request_is_503_at_once() {
    const MOST: usize = 1024;
    const MORE: usize = 50;
    if !alone("names::the_1025th_waiting_request_is_503_at_once", 4096) {
        return;
    }
    let identities = Identities::new(&["client-1"]);
    let nobody = std::net::TcpListener::bind(free_address()).unwrap();
    let alone = client(&identities, "client-1", nobody.local_addr().unwrap()).start();
    let mut asked: Vec<TcpStream> = (0..MOST + MORE).map(|_| begin(alone.http())).collect();
    // The excess is refused at once, while all others wait for 20 seconds.
    let until = Instant::now() + PATIENCE / 2;
    while asked.iter().filter(|socket| is_answered(socket)).count() < MORE {
        assert!(Instant::now() < until, "1024 requests do not fill the queue");
        std::thread::sleep(Duration::from_millis(10));
    }
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let _server = server(&identities).set("BIND_PORT", port).start();
    let mut refused = 0;
    for socket in &mut asked {
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let answer = parse_answer(&answer);
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.json()["error"], "full");
            assert!(answer.header("Retry-After").is_some());
            refused += 1;
        }
    }
    assert_eq!(refused, MORE);
    assert_eq!(alone.get("/server/time").status, 200);
}

/// Sends a request without waiting for its answer.
fn begin(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(b"GET /server/time HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    socket
}

/// Whether something can be read.
fn is_answered(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let peeked = socket.peek(&mut [0; 1]);
    socket.set_nonblocking(false).unwrap();
    peeked.is_ok()
}
