//! Peers that mean harm, or are broken, against the real programs. Whatever they do, the program
//! lives, gives back what it took, says once why it parted with them, and serves the others.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::peer::{
    self, EVENT, Ended, HEARTBEAT, HEARTBEAT_REPLY, Peer, REPLY, accepting, dialing, event,
    heartbeat, message,
};
use support::{Identities, Node, PATIENCE, client, server};

/// What a node may keep of what an attack made it take, in kB: the allocator gives back late.
const KEPT_KB: u64 = 16 * 1024;
/// Threads that handlers were started on stay for ten seconds; a table of attacks does not wait for
/// that after each.
const KEPT_THREADS: u64 = 8;
/// The largest body in the tests that let queues fill.
const SMALL_BODY: usize = 1 << 20;

/// A server and a well-behaved client, measured while they are well.
struct Scene {
    identities: Identities,
    server: Node,
    client: Node,
    memory: u64,
    threads: u64,
}

impl Scene {
    /// With bodies of at most [`SMALL_BODY`] where queues are to fill.
    fn new(small: bool) -> Self {
        let identities = Identities::new(&["good", "hostile"]);
        let body = if small { SMALL_BODY } else { 16 * SMALL_BODY };
        let server = server(&identities).set("RP_MAX_BODY_BYTES", body).start();
        let client = client(&identities, "good", server.pipe()).start();
        client.get_when_up("/server/time");
        let mut scene = Self { identities, server, client, memory: 0, threads: 0 };
        scene.assert_served();
        scene.memory = scene.server.status_number("VmRSS");
        scene.threads = scene.server.status_number("Threads");
        scene
    }

    /// Connects as the client `hostile`.
    fn hostile(&self) -> Peer {
        Peer::dial(self.server.pipe(), dialing(Some((&self.identities, "hostile")))).unwrap()
    }

    /// As [`Scene::hostile`], with room for next to nothing that it does not read.
    fn hostile_with_small_buffer(&self) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.server.pipe().into()).unwrap();
        let config = dialing(Some((&self.identities, "hostile")));
        Peer::over(socket.into(), config).unwrap()
    }

    /// The well-behaved client asks and is asked.
    fn assert_served(&self) {
        let asked = Instant::now();
        assert_eq!(self.client.get("/server/time").status, 200);
        assert_eq!(self.server.get("/client/good/time").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    }

    /// After the harm: the log from line `skip` on has one line of an end, with this reason, and
    /// all is as before.
    fn assert_recovered(&mut self, skip: usize, reason: &str) {
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
    fn assert_threads(&self, more: u64) {
        wait_until(|| {
            let threads = self.server.status_number("Threads");
            let most = self.threads + more;
            (threads > most).then(|| format!("{threads} threads, were {}", self.threads))
        });
    }
}

/// Waits until `wrong` has nothing to say any more.
fn wait_until(mut wrong: impl FnMut() -> Option<String>) {
    let until = Instant::now() + PATIENCE;
    while let Some(what) = wrong() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// One line says that somebody was refused or lost, and it says why.
fn assert_one_end(node: &Node, skip: usize, reason: &str) {
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

/// Messages that break the protocol, and what is said of them.
fn broken_messages() -> Vec<(Vec<u8>, &'static str)> {
    let with_header = |kind, flags, length: u32| {
        let mut bytes = vec![kind, flags];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 7]);
        bytes
    };
    // A reply of 16 MB in which one field is repeated, each time as short as it can be.
    let repeated = |field: &[u8]| {
        let mut body = b"\x08\x01\x18\x00\x22\x00".to_vec();
        body.extend_from_slice(&field.repeat((16 << 20) / field.len()));
        message(REPLY, 7, &body)
    };
    vec![
        (with_header(EVENT, 0, u32::MAX), "message of 4294967295 bytes announced"),
        (with_header(EVENT, 0, (16 << 20) + (64 << 10) + 1), "message of 16842753 bytes announced"),
        (with_header(HEARTBEAT, 0, 1025), "message of 1025 bytes announced, the most is 1024"),
        (with_header(0x03, 0, 0), "message of unknown type 0x03"),
        (with_header(HEARTBEAT, 1, 2), "message with unknown flags 0x01"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "message of unknown type 0x47"),
        (vec![0xff; 100_000], "message of unknown type 0xff"),
        (message(HEARTBEAT, 7, b""), "malformed message: required field missing"),
        (message(HEARTBEAT, 7, b"\x08\x02"), "message of unknown version 2"),
        (message(HEARTBEAT, 7, b"\x08\xff"), "malformed message: unfinished number"),
        (
            message(EVENT, 7, b"\x08\x01\x12\x7fget"),
            "malformed message: field longer than its message",
        ),
        // A header that ends with the message, with a name that goes on behind it.
        (
            message(REPLY, 7, b"\x08\x01\x18\x00\x22\x00\x8a\x01\x05\x0a\x20a\x12\x00"),
            "malformed message: field longer than its message",
        ),
        (
            message(EVENT, 7, b"\x08\x01\x12\x03get\x1a\x02\xff\xfe"),
            "malformed message: text that is not UTF-8",
        ),
        (message(EVENT, 7, b"\x08\x01\x13"), "malformed message: unknown wire type"),
        // Headers without and with a name and a value, and a media type.
        (repeated(b"\x8a\x01\x00"), "malformed message: required field missing"),
        (repeated(b"\x8a\x01\x04\x0a\x00\x12\x00"), "malformed message: too many fields"),
        (repeated(b"\x12\x00"), "malformed message: too many fields"),
        // While the first is being handled the others come, in the same record.
        (event(7, "get", "time", b"").repeat(300), "event with id 7 while that id is in use"),
    ]
}

#[test]
fn a_client_that_breaks_the_protocol_is_closed_with_the_reason() {
    let mut scene = Scene::new(false);
    for (bytes, reason) in broken_messages() {
        let skip = scene.server.log().len();
        let mut hostile = scene.hostile();
        // The server may close before it has all.
        let _ = hostile.send(&bytes);
        hostile.wait_end();
        drop(hostile);
        scene.assert_recovered(skip, &format!("protocol error: {reason}"));
    }
    scene.assert_threads(0);
}

#[test]
fn messages_arrive_however_they_are_cut() {
    let scene = Scene::new(false);
    let mut hostile = scene.hostile();
    let bytes = [heartbeat(1), event(2, "get", "cat//a/b", b"x"), heartbeat(3)].concat();
    for length in [1, 3, 10, 11, 1000] {
        hostile.send_cut(&bytes, length).unwrap();
        let mut ids: Vec<u32> = (0..3).map(|_| hostile.frame().id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
    }
}

#[test]
fn a_client_that_ends_in_the_middle_is_lost_with_the_reason() {
    let mut scene = Scene::new(false);
    let event = event(7, "get", "time", b"");
    let abort =
        |peer: &Peer| socket2::SockRef::from(peer.socket()).set_linger(Some(Duration::ZERO));
    let ways: [(&dyn Fn(Peer), &str); 4] = [
        (
            &|mut peer| {
                peer.close().unwrap();
                assert_eq!(peer.wait_end(), Ended::Properly);
            },
            "closed in the middle of a message",
        ),
        (
            &|mut peer| {
                peer.hang_up();
                peer.wait_end();
            },
            "ended without TLS's close",
        ),
        (&|peer| abort(&peer).unwrap(), "connection broken: Connection reset by peer"),
        (
            &|mut peer| {
                peer.socket().write_all(&[0x17, 3, 3, 0, 20].repeat(10)).unwrap();
                let ended = peer.wait_end();
                assert!(
                    matches!(&ended, Ended::Tls(alert) if alert.contains("BadRecordMac")),
                    "{ended:?}"
                );
            },
            "TLS error: cannot decrypt peer's message",
        ),
    ];
    for (end, reason) in ways {
        for length in [4, event.len() - 1] {
            let skip = scene.server.log().len();
            let mut hostile = scene.hostile();
            hostile.send(&heartbeat(1)).unwrap();
            assert_eq!(hostile.frame().kind, HEARTBEAT_REPLY);
            hostile.send(&event[..length]).unwrap();
            end(hostile);
            scene.assert_recovered(skip, reason);
        }
    }
    scene.assert_threads(0);
}

#[test]
fn a_reply_to_nothing_is_ignored() {
    let scene = Scene::new(false);
    let mut hostile = scene.hostile();
    hostile.send(&heartbeat(1)).unwrap();
    assert_eq!(hostile.frame().kind, HEARTBEAT_REPLY);
    scene.server.wait_log(&["hostile: connected"]);
    let skip = scene.server.log().len();
    for id in 0..10_000 {
        hostile.send(&peer::reply(id, "text/plain", 0, b"unasked")).unwrap();
        hostile.send(&peer::heartbeat_reply(id)).unwrap();
    }
    hostile.send(&event(7, "get", "time", b"")).unwrap();
    let frame = hostile.frame();
    assert_eq!((frame.kind, frame.id), (REPLY, 7));
    scene.assert_served();
    assert_eq!(scene.server.log().len(), skip);
}

/// What is done to a scene.
type Attack<'a> = &'a dyn Fn(&Scene);

#[test]
fn a_stranger_is_refused_with_the_reason() {
    let other = Identities::new(&["hostile"]);
    fn dial(scene: &Scene, identity: Option<(&Identities, &str)>) {
        let ended = match Peer::dial(scene.server.pipe(), dialing(identity)) {
            Ok(mut peer) => peer.wait_end(),
            Err(ended) => ended,
        };
        assert!(matches!(ended, Ended::Tls(_)), "it is told why: {ended:?}");
    }
    let issued = |scene: &Scene, change: fn(&mut rcgen::CertificateParams)| {
        peer::issue(&scene.identities, "odd", change);
        dial(scene, Some((&scene.identities, "odd")));
    };
    let write = |scene: &Scene, bytes: &[u8]| {
        let mut socket = TcpStream::connect(scene.server.pipe()).unwrap();
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(Shutdown::Write);
        read_to_end(&mut socket);
    };
    let table: [(Attack<'_>, &str); 9] = [
        (&|scene| write(scene, b""), "the peer closed the connection during the TLS handshake"),
        (
            &|scene| write(scene, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "the TLS handshake failed: received corrupt message",
        ),
        (
            &|scene| write(scene, &[0x16; 1 << 20]),
            "the TLS handshake failed: received corrupt message",
        ),
        (&|scene| dial(scene, None), "the TLS handshake failed: peer sent no certificates"),
        (
            &|scene| dial(scene, Some((&other, "hostile"))),
            "invalid peer certificate: UnknownIssuer",
        ),
        (
            &|scene| issued(scene, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            "invalid peer certificate: certificate expired",
        ),
        (
            &|scene| issued(scene, |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1)),
            "invalid peer certificate: certificate not valid yet",
        ),
        (
            &|scene| dial(scene, Some((&scene.identities, "localhost"))),
            "invalid peer certificate: certificate does not allow extended key usage",
        ),
        (
            &|scene| {
                peer::issue(&scene.identities, "nameless", |params| {
                    params.distinguished_name = rcgen::DistinguishedName::new();
                });
                let config = dialing(Some((&scene.identities, "nameless")));
                let _ = Peer::dial(scene.server.pipe(), config).map(|mut peer| peer.wait_end());
            },
            "its certificate cannot be used",
        ),
    ];
    for (attack, reason) in table {
        // A server of its own: lines about refusals come every ten seconds at most.
        let mut scene = Scene::new(false);
        let skip = scene.server.log().len();
        attack(&scene);
        scene.assert_recovered(skip, reason);
        scene.assert_threads(0);
    }
}

/// What takes ten seconds and more, all at the same time, however few tests run at once. Tests start
/// in the order of their names, and this one comes first.
#[test]
fn a_break_of_ten_seconds_ends_a_connection() {
    let scenes: [(&str, fn()); 5] = [
        ("handshake", an_unfinished_handshake_is_closed_after_ten_seconds),
        ("six hundred", six_hundred_silent_connections_keep_nobody_out_for_long),
        ("no requests", a_client_that_reads_no_requests_costs_little_and_only_itself),
        ("silent server", a_server_that_stays_silent_is_left_after_ten_seconds),
        ("no heartbeat", a_server_that_answers_no_heartbeat_is_left_after_its_time),
    ];
    let threads = scenes.map(|(name, scene)| {
        (name, thread::Builder::new().name(name.to_owned()).spawn(scene).unwrap())
    });
    let failed: Vec<&str> = threads
        .into_iter()
        .filter_map(|(name, thread)| thread.join().err().map(|_| name))
        .collect();
    assert_eq!(failed, [""; 0]);
}

/// Waits until the other side has closed, with a deadline.
fn read_to_end(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    match socket.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("not closed"),
        _ => {}
    }
}

/// What a client says first.
fn client_hello() -> Vec<u8> {
    let name = "localhost".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(dialing(None), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

fn an_unfinished_handshake_is_closed_after_ten_seconds() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let started = Instant::now();
    let mut strangers: Vec<TcpStream> =
        (0..3).map(|_| TcpStream::connect(scene.server.pipe()).unwrap()).collect();
    // The first stays silent, the second stops in the middle, the third goes on for too long.
    let hello = client_hello();
    strangers[1].write_all(&hello[..hello.len() / 2]).unwrap();
    let mut drops = hello.iter();
    while started.elapsed() < Duration::from_millis(9500) {
        strangers[2].write_all(&[*drops.next().unwrap()]).unwrap();
        scene.assert_served();
        thread::sleep(Duration::from_millis(250));
    }
    for stranger in &mut strangers {
        read_to_end(stranger);
        let lived = started.elapsed();
        assert!((9800..12_000).contains(&lived.as_millis()), "closed after {lived:?}");
    }
    scene.assert_recovered(skip, "refused: the TLS handshake was not finished in time");
    scene.assert_threads(0);
}

fn six_hundred_silent_connections_keep_nobody_out_for_long() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let started = Instant::now();
    let mut strangers: Vec<TcpStream> =
        (0..600).map(|_| TcpStream::connect(scene.server.pipe()).unwrap()).collect();
    for stranger in &strangers {
        stranger.set_nonblocking(true).unwrap();
    }
    let closed = |strangers: &mut Vec<TcpStream>| {
        let is_open = |mut stranger: &TcpStream| matches!(stranger.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        strangers.iter().filter(|stranger| !is_open(stranger)).count()
    };
    // 512 may be in their handshake; the others are closed at once.
    wait_until(|| {
        let closed = closed(&mut strangers);
        (closed < 600 - 512).then(|| format!("{closed} closed"))
    });
    assert!(started.elapsed() < Duration::from_secs(8));
    assert_eq!(closed(&mut strangers), 600 - 512);
    scene.server.wait_log_from(skip, &["refused: too many are in their handshake"]);
    scene.assert_served();

    // Somebody with a key comes in as soon as the first time is up.
    let identity = || dialing(Some((&scene.identities, "hostile")));
    assert!(Peer::dial(scene.server.pipe(), identity()).is_err());
    let mut newcomer = loop {
        match Peer::dial(scene.server.pipe(), identity()) {
            Ok(newcomer) => break newcomer,
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
        assert!(started.elapsed() < Duration::from_secs(13), "nobody gets in");
    };
    newcomer.send(&event(7, "get", "time", b"")).unwrap();
    assert_eq!(newcomer.frame().id, 7);
    newcomer.close().unwrap();
    newcomer.wait_end();
    for stranger in &mut strangers {
        stranger.set_nonblocking(false).unwrap();
        read_to_end(stranger);
    }
    scene.server.wait_log_from(skip, &["hostile: lost", "closed by the peer"]);
    let refusals = scene.server.log().iter().filter(|line| line.contains("refused")).count();
    assert!(refusals <= 2, "one line in ten seconds: {:#?}", scene.server.log());
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile();
    hostile.close().unwrap();
    hostile.wait_end();
    scene.assert_recovered(skip, "hostile: lost");
    scene.assert_threads(0);
}

#[test]
fn a_flood_of_heartbeats_without_reading_ends_the_link() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile_with_small_buffer();
    let heartbeats = heartbeat(7).repeat(10_000);
    let until = Instant::now() + PATIENCE;
    while hostile.send(&heartbeats).is_ok() {
        assert!(Instant::now() < until, "it may go on for ever");
    }
    scene.assert_recovered(skip, "it sends heartbeats without reading the answers");
    scene.assert_threads(0);
}

#[test]
fn a_client_that_reads_no_replies_costs_little_and_only_itself() {
    let mut scene = Scene::new(true);
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile_with_small_buffer();
    // Each reply is as long as its request.
    let noun = format!("cat//{}", "x".repeat(15_000));
    let until = Instant::now() + PATIENCE;
    let mut id = 0;
    let mut sent = 0;
    loop {
        let requests: Vec<u8> = (0..100).flat_map(|n| event(id + n, "get", &noun, b"")).collect();
        id += 100;
        if hostile.send(&requests).is_err() {
            break;
        }
        sent += requests.len();
        assert!(Instant::now() < until, "it may go on for ever: {sent} bytes");
        scene.assert_served();
    }
    let peak = scene.server.status_number("VmHWM");
    println!("{sent} bytes of requests taken, peak {peak} kB, before {} kB", scene.memory);
    assert!(peak < scene.memory + 64 * 1024, "{peak} kB, was {}", scene.memory);
    scene.assert_recovered(skip, "hostile: lost");
    scene.server.wait_log_from(skip, &["cannot send to it: "]);
    scene.assert_threads(0);
}

fn a_client_that_reads_no_requests_costs_little_and_only_itself() {
    let mut scene = Scene::new(true);
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile_with_small_buffer();
    hostile.send(&heartbeat(1)).unwrap();
    scene.server.wait_log(&["hostile: connected"]);
    let http = scene.server.http();
    let started = Instant::now();
    let callers: Vec<_> = (0..12)
        .map(|_| {
            thread::spawn(move || {
                let body = vec![b'x'; SMALL_BODY];
                support::ask(http, "POST", "/client/hostile/x", &[("RP-Wait", "1")], &body).status
            })
        })
        .collect();
    // It lives, but takes nothing.
    while !scene.server.log()[skip..].iter().any(|line| line.contains("hostile: lost")) {
        let _ = hostile.send(&heartbeat(1));
        scene.assert_served();
        // A write that still moved something before it stalled, and then one that moves nothing.
        assert!(started.elapsed() < Duration::from_secs(25), "it may stay for ever");
        thread::sleep(Duration::from_millis(500));
    }
    let mut statuses: Vec<u16> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    statuses.sort_unstable();
    let peak = scene.server.status_number("VmHWM");
    println!("{statuses:?} after {:?}, peak {peak} kB", started.elapsed());
    // Those it may have had end with an unknown outcome; the others were never sent.
    assert!(statuses.iter().all(|status| matches!(status, 502 | 503)), "{statuses:?}");
    assert!(statuses.contains(&502) && statuses.contains(&503), "{statuses:?}");
    assert!(peak < scene.memory + 128 * 1024, "{peak} kB, was {}", scene.memory);
    scene.assert_recovered(skip, "cannot send to it: it took nothing for 10 s");
    scene.assert_threads(0);
}

/// A client that meets a hostile server first and then a good one, at the same address. `attack`
/// has the first connection; the client must say `reason` of it, once, and be as before.
fn meet(identities: &Identities, attack: impl FnOnce(&TcpListener), reason: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = client(identities, "good", listener.local_addr().unwrap()).start();
    let threads = client.status_number("Threads");
    let memory = client.status_number("VmRSS");
    attack(&listener);
    client.wait_log(&[reason]);

    let mut good = Peer::accept(&listener, accepting(identities, "localhost")).unwrap();
    let skip = client.log().len();
    let http = client.http();
    let asked = thread::spawn(move || support::ask(http, "GET", "/server/time", &[], b""));
    let first = good.frame();
    assert_eq!(first.kind, HEARTBEAT);
    good.send(&peer::heartbeat_reply(first.id)).unwrap();
    let request = good.frame_of(EVENT);
    good.send(&peer::reply(request.id, "text/plain", 0, b"now")).unwrap();
    assert_eq!(asked.join().unwrap().text(), "now");
    good.close().unwrap();
    good.wait_end();
    client.wait_log_from(skip, &["lost: closed by the peer"]);

    assert!(client.runs());
    // It dials again, but its next connection is not taken, so it has no link.
    wait_until(|| {
        let now = client.status_number("Threads");
        (now > threads).then(|| format!("{now} threads, were {threads}"))
    });
    wait_until(|| {
        let now = client.status_number("VmRSS");
        (now > memory + KEPT_KB).then(|| format!("{now} kB, was {memory}"))
    });
    let log = client.log();
    let bad = |line: &&String| line.contains("lost") || line.contains("not ");
    let said: Vec<&String> = log.iter().take(skip).filter(bad).collect();
    assert!(said.len() == 1 && said[0].contains(reason), "not one line with {reason:?}: {log:#?}");
}

#[test]
fn a_server_that_breaks_the_protocol_is_left_and_dialled_again() {
    let identities = Identities::new(&["good"]);
    for (bytes, reason) in broken_messages() {
        let attack = |listener: &TcpListener| {
            let mut hostile = Peer::accept(listener, accepting(&identities, "localhost")).unwrap();
            let first = hostile.frame();
            hostile.send(&peer::heartbeat_reply(first.id)).unwrap();
            let _ = hostile.send(&bytes);
            hostile.wait_end();
        };
        meet(&identities, attack, &format!("lost: protocol error: {reason}"));
    }
}

#[test]
fn a_server_that_speaks_nonsense_at_once_is_not_called_connected() {
    let identities = Identities::new(&["good"]);
    let attack = |listener: &TcpListener| {
        let mut hostile = Peer::accept(listener, accepting(&identities, "localhost")).unwrap();
        let _ = hostile.send(b"HTTP/1.1 200 OK\r\n\r\n");
        hostile.wait_end();
    };
    meet(&identities, attack, "not connected: protocol error: message of unknown type 0x48");
}

#[test]
fn a_server_that_is_not_the_right_one_is_refused_with_the_reason() {
    let identities = Identities::new(&["good"]);
    identities.ca(&["issue", "elsewhere.example", "--server"]);
    let other = Identities::new(&[]);
    let present = |identities: &Identities, name: &str, reason: &str, right: &Identities| {
        let config = accepting(identities, name);
        let attack = |listener: &TcpListener| {
            let ended = Peer::accept(listener, config).map(|_| "in").unwrap_err();
            assert!(matches!(ended, Ended::Tls(_)), "it is told why: {ended:?}");
        };
        meet(right, attack, reason);
    };
    present(&other, "localhost", "invalid peer certificate: UnknownIssuer", &identities);
    let purpose = "invalid peer certificate: certificate does not allow extended key usage";
    present(&identities, "good", purpose, &identities);
    let name = "invalid peer certificate: certificate not valid for name";
    present(&identities, "elsewhere.example", name, &identities);
    peer::issue(&identities, "old", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    present(&identities, "old", "invalid peer certificate: certificate expired", &identities);

    let corrupt = "not connected: the TLS handshake failed: received corrupt message";
    for bytes in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), vec![0x16; 1 << 20]] {
        let attack = |listener: &TcpListener| {
            let mut socket = peer::accept(listener);
            let _ = socket.write_all(&bytes);
            read_to_end(&mut socket);
        };
        meet(&identities, attack, corrupt);
    }
    let attack = |listener: &TcpListener| drop(peer::accept(listener));
    meet(&identities, attack, "not connected: the ");
}

fn a_server_that_stays_silent_is_left_after_ten_seconds() {
    let identities = Identities::new(&["good"]);
    let attack = |listener: &TcpListener| {
        let mut socket = peer::accept(listener);
        let started = Instant::now();
        read_to_end(&mut socket);
        let lived = started.elapsed();
        assert!((9800..12_000).contains(&lived.as_millis()), "closed after {lived:?}");
    };
    meet(&identities, attack, "not connected: the TLS handshake was not finished in time");
}

fn a_server_that_answers_no_heartbeat_is_left_after_its_time() {
    let identities = Identities::new(&["good"]);
    let attack = |listener: &TcpListener| {
        let mut silent = Peer::accept(listener, accepting(&identities, "localhost")).unwrap();
        silent.wait_end();
        let lived = silent.connected.elapsed();
        assert!((9800..12_000).contains(&lived.as_millis()), "closed after {lived:?}");
    };
    meet(&identities, attack, "not connected: no bytes received for 10.0 s");
}
