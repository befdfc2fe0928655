//! Malicious or broken peers. After each of them a well-behaved caller is still joined.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use super::scene::{Keys, Scene, Wire, entry, frame, webroute, websocket};
use crate::support::PATIENCE;
use crate::support::alone::alone;

const PATH: &str = "/test/path/";

/// A caller and a server are still joined, on a path of their own.
fn is_well(scene: &Scene) {
    let mut server = scene.register("/well");
    let (mut caller, mut joined) = scene.joined("/well", "well");
    assert_eq!(server.notice()["id"], "well");
    caller.send("ping");
    assert_eq!(joined.read(4), b"ping");
    joined.send("pong");
    assert_eq!(caller.read(4), b"pong");
}

/// Waits until the path is free.
fn is_freed(scene: &Scene, path: &str) {
    let until = Instant::now() + PATIENCE;
    // Callers that wait for a server that leaves are closed without a response.
    while !scene.call(path, "probe").some().starts_with(b"HTTP/1.1 502 ") {
        assert!(Instant::now() < until);
    }
}

#[test]
fn an_id_is_good_for_one_caller_and_one_server() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    let mut first = scene.call(PATH, "twin");
    server.notice();
    let (head, body) = scene.call(PATH, "twin").answer();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("WebRoute"), "{head}{body}");
    let mut joined = scene.join(PATH, "twin");
    assert!(joined.head().starts_with("HTTP/1.1 101 ") && first.head().contains(" 101 "));
    // A third one comes too late.
    let (head, _) = scene.join(PATH, "twin").answer();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    first.send("x");
    assert_eq!(joined.read(1), b"x");
    is_well(&scene);
}

#[test]
fn a_caller_that_leaves_while_it_waits_is_forgotten_at_once() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    for vanishes in [true, false] {
        let caller = scene.call(PATH, "gone");
        server.notice();
        if vanishes {
            caller.reset()
        } else {
            drop(caller)
        }
        let until = Instant::now() + Duration::from_secs(5);
        // Its place is freed together with its id.
        loop {
            let mut again = scene.call(PATH, "gone");
            again.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            match std::io::Read::read(&mut again.socket, &mut [0]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                _ => assert!(Instant::now() < until, "it is still there"),
            }
        }
        server.notice();
        // Disconnected, so that the next round starts with no caller.
        std::thread::sleep(Duration::from_millis(1));
    }
    is_well(&scene);
}

#[test]
fn heads_that_are_too_long_too_slow_or_none_are_refused() {
    let scene = Scene::with(|settings| settings.times.head = Duration::from_millis(700));
    let id = "x".repeat(100_000);
    let cases: [(Vec<u8>, &str); 4] = [
        (webroute(PATH, &id, &scene.keys.client).into_bytes(), "431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)).into_bytes(), "431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_vec(), "400"),
        (b"GET / HTTP/1.1\r\nX: \xff\xfe\r\n\r\n".to_vec(), "400"),
    ];
    for (request, status) in cases {
        let mut wire = scene.connect();
        // The broker may refuse and close before all was sent.
        let _ = wire.socket.write_all(&request);
        let head = wire.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    let mut wire = scene.connect();
    let begun = Instant::now();
    for byte in webroute(PATH, "slow", &scene.keys.client).bytes() {
        if wire.socket.write_all(&[byte]).is_err() || begun.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        if begun.elapsed() > Duration::from_millis(700) {
            break;
        }
    }
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    is_well(&scene);
}

#[test]
fn frames_that_no_server_sends_close_with_their_code_and_free_the_path() {
    let scene = Scene::new();
    let unmasked = |first: u8, payload: &[u8]| {
        let mut bytes = vec![first, payload.len() as u8];
        bytes.extend(payload);
        bytes
    };
    let fragmented = [frame(0x01, b"a"), frame(0x00, b"b"), frame(0x80, b"c")].concat();
    let endless = [frame(0x02, b"a"), frame(0x00, &[0; 125]), frame(0x00, b"c")].concat();
    let mut huge = vec![0x82, 0xff];
    huge.extend((u64::MAX >> 1).to_be_bytes());
    huge.extend([1, 2, 3, 4]);
    let cases: [(&str, Vec<u8>, u16); 11] = [
        ("text", frame(0x81, b"hello"), 1003),
        ("binary", frame(0x82, &[0, 1, 2]), 1003),
        ("fragmented", fragmented, 1003),
        ("fragments without an end", endless, 1009),
        ("oversized", frame(0x82, &[0; 2000]), 1009),
        ("said to be huge", huge, 1009),
        ("unmasked", unmasked(0x8a, b"x"), 1002),
        ("fragmented control", frame(0x09, b"x"), 1002),
        ("reserved opcode", frame(0x83, b"x"), 1002),
        ("reserved bits", frame(0xf1, b"x"), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
    ];
    for (what, bytes, code) in cases {
        let mut server = scene.register(PATH);
        server.send(bytes);
        let (first, payload) = server.frame();
        assert_eq!(first, 0x88, "{what}");
        assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), code, "{what}");
        let (head, _) = scene.call(PATH, "x").answer();
        assert!(head.starts_with("HTTP/1.1 502 "), "{what}: {head}");
        assert_eq!(server.rest(), b"", "{what}");
    }
    is_well(&scene);
}

#[test]
fn what_a_caller_sends_early_is_bounded_and_delivered_whole() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    let sent: Vec<u8> = (0..8_000_000_u32).map(|at| (at / 7) as u8).collect();
    let mut caller = scene.connect();
    // Together with the request, in one write.
    let mut request = webroute(PATH, "early", &scene.keys.client).into_bytes();
    request.extend(&sent[..1000]);
    caller.send(request);
    server.notice();
    // And as much as the connection accepts: it must stop far below all of it.
    caller.socket.set_nonblocking(true).unwrap();
    let mut at = 1000;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(300) {
        match caller.socket.write(&sent[at..]) {
            Ok(count) => (at, last) = (at + count, Instant::now()),
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(at < 6_000_000, "{at} bytes were taken while nobody wants them");

    let mut joined = scene.join(PATH, "early");
    let head = joined.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    caller.socket.set_nonblocking(false).unwrap();
    let rest = sent[at..].to_vec();
    let writer = std::thread::spawn(move || {
        caller.send(rest);
        caller.end();
        caller.head()
    });
    assert!(joined.rest() == sent);
    drop(joined);
    assert!(writer.join().unwrap().starts_with("HTTP/1.1 101 "));
    is_well(&scene);
}

/// What the kernel holds for this connection.
fn unread(wire: &Wire) -> Vec<u8> {
    let mut bytes = [0; 4096];
    let count = wire.socket.peek(&mut bytes).unwrap();
    bytes[..count].to_vec()
}

#[test]
fn a_server_that_is_not_ours_gets_nothing_before_it_has_read_its_answer() {
    let scene = Scene::with(|settings| settings.times.head_start = Duration::from_secs(60));
    let mut server = scene.register(PATH);
    for is_early in [true, false] {
        let mut caller = scene.connect();
        let request = webroute(PATH, "first", &scene.keys.client);
        caller.send(request + if is_early { "first" } else { "" });
        server.notice();
        let mut joined = scene.join_as_original(PATH, "first");
        caller.head();
        if !is_early {
            caller.send("first");
        }
        // It answers a ping and reads its 101 only then: the answer shows nothing yet.
        let first_ping = server.ping();
        server.send(frame(0x8a, &first_ping));
        let second_ping = server.ping();
        assert_ne!(first_ping, second_ping);
        std::thread::sleep(Duration::from_millis(100));
        assert!(unread(&joined).ends_with(b"\r\n\r\n"), "{:?}", unread(&joined));
        joined.head();
        // Neither does an answer to another ping.
        server.send(frame(0x8a, &first_ping));
        server.send(frame(0x8a, b"1795158476"));
        std::thread::sleep(Duration::from_millis(100));
        joined.socket.set_nonblocking(true).unwrap();
        assert!(joined.socket.peek(&mut [0]).is_err());
        joined.socket.set_nonblocking(false).unwrap();
        server.send(frame(0x8a, &second_ping));
        assert_eq!(joined.read(5), b"first");
        // From now on bytes pass as they come.
        caller.send("second");
        assert_eq!(joined.read(6), b"second");
    }
}

#[test]
fn a_servers_own_bytes_show_that_it_has_read_its_answer() {
    let scene = Scene::with(|settings| settings.times.head_start = Duration::from_secs(60));
    let mut server = scene.register(PATH);
    let mut caller = scene.connect();
    caller.send(webroute(PATH, "banner", &scene.keys.client) + "first");
    server.notice();
    let mut joined = scene.join_as_original(PATH, "banner");
    joined.head();
    server.ping();
    joined.send("banner");
    assert_eq!(joined.read(5), b"first");
    caller.head();
    assert_eq!(caller.read(6), b"banner");
}

#[test]
fn a_server_that_answers_no_ping_gets_the_first_bytes_after_a_while() {
    let time = Duration::from_secs(2);
    let scene = Scene::with(|settings| settings.times.head_start = time);
    let mut server = scene.register(PATH);
    let waited = |server: &mut Wire, is_registered: bool| {
        let mut caller = scene.connect();
        caller.send(webroute(PATH, "mute", &scene.keys.client) + "first");
        server.notice();
        let mut joined = scene.join_as_original(PATH, "mute");
        joined.head();
        let begun = Instant::now();
        let ping = server.ping();
        if !is_registered {
            server.socket.shutdown(std::net::Shutdown::Both).unwrap();
        }
        assert_eq!(joined.read(5), b"first");
        (begun.elapsed(), ping)
    };
    let (first, ping) = waited(&mut server, true);
    assert!(first >= time / 2, "{first:?}");
    // It is not waited for again, until it answers.
    assert!(waited(&mut server, true).0 < time / 2);
    server.send(frame(0x8a, &ping));
    // This is answered after that was taken note of.
    server.send(frame(0x89, b"are you there"));
    assert_eq!(server.frame().0, 0x8a);
    // Without its registration only its own bytes could show it.
    let (last, _) = waited(&mut server, false);
    assert!(last >= time / 2, "{last:?}");
}

#[test]
fn a_server_that_keeps_early_bytes_gets_them_at_once() {
    let scene = Scene::with(|settings| settings.times.head_start = Duration::from_secs(60));
    let mut server = scene.register(PATH);
    let mut caller = scene.connect();
    caller.send(webroute(PATH, "kept", &scene.keys.client) + "first");
    server.notice();
    let mut joined = scene.join(PATH, "kept");
    joined.head();
    assert_eq!(joined.read(5), b"first");
}

#[test]
fn a_caller_that_sends_nothing_is_reset_at_the_idle_limit() {
    let scene = Scene::with(|settings| {
        settings.config.idle = restpipe::config::IdleLimit::Always(Duration::from_millis(300));
    });
    let mut server = scene.register(PATH);
    let mut caller = scene.call(PATH, "silent");
    server.notice();
    let mut joined = scene.join_as_original(PATH, "silent");
    for end in [&mut caller, &mut joined] {
        end.head();
        let error = std::io::Read::read(&mut end.socket, &mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_thousand_callers_wait_at_once_and_each_gets_its_own_server() {
    // Two connections each, with both ends in this process.
    if !alone(
        "broker::bad_input::a_thousand_callers_wait_at_once_and_each_gets_its_own_server",
        8192,
    ) {
        return;
    }
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    let mut callers: Vec<Wire> =
        (0..1000).map(|number| scene.call(PATH, &format!("caller-{number}"))).collect();
    let mut told: Vec<String> =
        (0..1000).map(|_| server.notice()["id"].as_str().unwrap().to_owned()).collect();
    // Latest first.
    told.sort_by_key(|id| std::cmp::Reverse(id[7..].parse::<usize>().unwrap()));
    let mut joined: Vec<Wire> = told.iter().map(|id| scene.join(PATH, id)).collect();
    for (end, id) in joined.iter_mut().zip(&told) {
        assert!(end.head().starts_with("HTTP/1.1 101 "), "{id}");
        end.send(format!("{id}\n"));
    }
    for (number, caller) in callers.iter_mut().enumerate() {
        assert!(caller.head().starts_with("HTTP/1.1 101 "), "{number}");
        let expected = format!("caller-{number}\n");
        assert_eq!(caller.read(expected.len()), expected.as_bytes());
    }
    is_well(&scene);
}

#[test]
fn either_side_may_vanish_at_any_byte() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    let call = webroute(PATH, "cut", &scene.keys.client);
    for at in (0..call.len()).step_by(9) {
        let mut caller = scene.connect();
        caller.send(&call[..at]);
        caller.reset();
    }
    let serve = websocket("/cut", &scene.keys.server);
    for at in (0..serve.len()).step_by(9) {
        let mut cut = scene.connect();
        cut.send(&serve[..at]);
        cut.reset();
    }
    // The server within its own request for a caller, and either side once joined.
    for at in 0..12 {
        let id = format!("cut-{at}");
        let mut caller = scene.call(PATH, &id);
        assert_eq!(server.notice()["id"], *id);
        if at < 6 {
            let join = webroute(PATH, &id, &scene.keys.server);
            let mut cut = scene.connect();
            cut.send(&join[..join.len() * at / 6]);
            cut.reset();
        }
        let mut joined = scene.join(PATH, &id);
        assert!(joined.head().starts_with("HTTP/1.1 101 ") && caller.head().contains(" 101 "));
        caller.send("some bytes");
        joined.read(at % 11);
        let (gone, mut left) = if at % 2 == 0 { (caller, joined) } else { (joined, caller) };
        gone.reset();
        assert!(left.is_over());
    }
    // A WebSocket in the middle of a frame.
    for at in 1..7 {
        let mut cut = scene.register("/cut");
        cut.send(&frame(0x8a, b"pong")[..at]);
        cut.reset();
        is_freed(&scene, "/cut");
    }
    is_well(&scene);
}

#[test]
fn registrations_and_waiting_callers_are_bounded() {
    let scene = Scene::with(|settings| {
        settings.bounds.registrations_per_key = 20;
        settings.bounds.waiting = 30;
        settings.bounds.waiting_per_path = 10;
    });
    let mut held: Vec<Wire> = (0..20).map(|n| scene.register(&format!("/{n}"))).collect();
    for n in 20..40 {
        let mut flood = scene.connect();
        flood.send(websocket(&format!("/{n}"), &scene.keys.server));
        let (head, body) = flood.answer();
        assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("too_many"), "{head}{body}");
    }
    let mut callers = Vec::new();
    let refused = (0..40).filter(|n| {
        let mut caller = scene.call("/0", &n.to_string());
        if *n < 10 {
            held[0].notice();
            callers.push(caller);
            return false;
        }
        caller.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let is_refused = std::io::Read::read(&mut caller.socket, &mut [0]).is_ok();
        callers.push(caller);
        is_refused
    });
    assert_eq!(refused.count(), 30);
    drop((held.remove(1), callers));
    is_freed(&scene, "/1");
    is_well(&scene);
}

#[test]
fn connections_beyond_the_bound_are_closed_and_later_ones_are_not() {
    let scene = Scene::with(|settings| settings.bounds.connections = 8);
    let idle: Vec<Wire> = (0..8).map(|_| scene.connect()).collect();
    // Each is counted once accepted; those before it in the queue already are.
    assert!(scene.connect().is_over());
    drop(idle);
    // All places are free again once each disconnect was detected.
    let answers = || {
        let mut wire = scene.connect();
        let _ = wire.socket.write_all(webroute(PATH, "x", &scene.keys.client).as_bytes());
        let mut answer = [0; 12];
        let is_answered = std::io::Read::read_exact(&mut wire.socket, &mut answer).is_ok();
        assert!(!is_answered || answer == *b"HTTP/1.1 502");
        is_answered.then_some(wire)
    };
    let until = Instant::now() + PATIENCE;
    while (0..8).map(|_| answers()).collect::<Option<Vec<Wire>>>().is_none() {
        assert!(Instant::now() < until);
    }
}

#[test]
fn no_key_takes_all_connections_paths_or_places_to_wait() {
    let keys = Keys::new();
    let (server, caller) = ("another server's key", "another caller's key");
    keys.write(&[entry("s", "server", "/*", server), entry("c", "client", "/*", caller)]);
    let scene = Scene::of(keys, |settings| {
        settings.bounds.connections = 64;
        settings.bounds.registrations = 18;
        settings.bounds.waiting = 18;
    });
    let refused = |mut wire: Wire, why: &str| {
        let (head, body) = wire.answer();
        assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("too_many"), "{why}: {head}");
    };
    // Of 18 paths a key gets 16, then another its first.
    let mut held: Vec<Wire> = (0..16).map(|n| scene.register(&format!("/{n}"))).collect();
    let register = |path: &str, key: &str| {
        let mut wire = scene.connect();
        wire.send(websocket(path, key));
        wire
    };
    refused(register("/16", &scene.keys.server), "paths");
    let mut other = register("/other", server);
    assert!(other.head().starts_with("HTTP/1.1 101 "));
    // The same of callers that wait.
    let call = |path: &str, id: &str, key: &str| {
        let mut wire = scene.connect();
        wire.send(webroute(path, id, key));
        wire
    };
    let mut waiting: Vec<Wire> = Vec::new();
    for n in 0..16 {
        waiting.push(call("/0", &n.to_string(), &scene.keys.client));
        held[0].notice();
    }
    refused(call("/0", "16", &scene.keys.client), "callers");
    waiting.push(call("/other", "x", caller));
    other.notice();
    // Of 60 connections 34 are in use, 16 with each of the first two keys. One of these gets no more
    // than is fair, and others still get theirs.
    let kept: Vec<Wire> = std::iter::from_fn(|| {
        let mut wire = scene.connect();
        wire.send(request_with(&scene.keys.client));
        let (head, _) = wire.answer();
        head.starts_with("HTTP/1.1 502 ").then_some(wire)
    })
    .take(64)
    .collect();
    assert!((16..28).contains(&kept.len()), "{}", kept.len());
    let mut wire = scene.connect();
    wire.send(request_with(caller));
    assert!(wire.answer().0.starts_with("HTTP/1.1 502 "));
}

/// A refused request that may be followed by another.
fn request_with(key: &str) -> String {
    format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\nX-Remoted-APIKey: {key}\r\n\r\n")
}

#[test]
fn whoever_shows_no_key_has_a_time_for_all_its_requests_together() {
    let keyless = Duration::from_millis(1500);
    let scene = Scene::with(|settings| settings.times.keyless = keyless);
    // One that pauses, like a keep-alive client, and one that always has the next request ready.
    for (pause, at_once) in [(Duration::from_millis(50), 1), (Duration::ZERO, 20)] {
        let mut wire = scene.connect();
        let begun = Instant::now();
        let requests = request_with("wrong").repeat(at_once);
        let mut refused = 0;
        while wire.socket.write_all(requests.as_bytes()).is_ok() {
            let mut answers = [0; 16 * 1024];
            match std::io::Read::read(&mut wire.socket, &mut answers) {
                Ok(count) if count > 0 => refused += 1,
                _ => break,
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it may go on for ever");
            std::thread::sleep(pause);
        }
        let lived = begun.elapsed();
        assert!(lived + Duration::from_millis(100) >= keyless, "closed after {lived:?}");
        assert!(refused > 2, "{refused}");
    }
    // A peer with a key may be refused any number of times.
    let mut wire = scene.connect();
    let begun = Instant::now();
    while begun.elapsed() < 2 * keyless {
        wire.send(request_with(&scene.keys.client));
        let (head, _) = wire.answer();
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        std::thread::sleep(Duration::from_millis(50));
    }
    is_well(&scene);
}

#[test]
fn those_without_a_key_are_bounded_and_make_room_for_another_address() {
    let scene = Scene::with(|settings| settings.bounds.keyless = 8);
    let mut refused: Vec<Wire> = Vec::new();
    for _ in 0..8 {
        let mut wire = scene.connect();
        wire.send(request_with("wrong"));
        assert!(wire.answer().0.starts_with("HTTP/1.1 403 "));
        refused.push(wire);
    }
    assert!(scene.connect().is_over(), "one more of the same address");
    let mut other = Wire::connect_from([127, 0, 0, 2].into(), scene.address);
    other.send(request_with(&scene.keys.client));
    let (head, _) = other.answer();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    // The oldest was displaced; the others stay, and this one is no longer a stranger.
    assert!(refused.remove(0).is_over());
    for wire in &mut refused {
        wire.send(request_with("wrong"));
        assert!(wire.answer().0.starts_with("HTTP/1.1 403 "));
    }
    // The ends of a well-behaved pair are briefly strangers, too, both at once.
    for wire in &mut refused {
        wire.end();
        assert!(wire.is_over());
    }
    is_well(&scene);
}
