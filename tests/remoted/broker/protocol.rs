//! The broker's bytes, answers and times as the original's ends see them.

use std::io::Read;
use std::time::{Duration, Instant};

use super::scene::{Keys, Scene, entry, frame, webroute, websocket};

const ID: &str = "Zw1BTNkHbth2XqMg8AlKWwLegXUFWFw6i2c4QLvNxGfWPv9bcthU1tNPokn4QkyI";
const PATH: &str = "/test/path/";

#[test]
fn a_recorded_exchange_is_the_same_byte_for_byte() {
    let scene = Scene::new();
    let mut server = scene.connect();
    server.send(websocket(PATH, &scene.keys.server));
    assert_eq!(
        server.head(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
    let mut caller = scene.call(PATH, ID);
    let from = caller.socket.local_addr().unwrap();
    let notice = format!(r#"{{"ipaddr":"{from}","id":"{ID}","timeout":60}}"#);
    assert_eq!(server.frame(), (0x81, notice.into_bytes()));

    let mut joined = scene.join(PATH, ID);
    let accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webroute\r\n\
        Connection: Upgrade\r\nSec-WebRoute-Accept: nZJBek4mnWf3Wd8JD7hBrU/97CI=\r\n\r\n";
    assert_eq!(joined.head(), accepted);
    assert_eq!(caller.head(), accepted);
    caller.send("question");
    assert_eq!(joined.read(8), b"question");
    // Half-close: one direction ends, and the other goes on.
    caller.end();
    assert_eq!(joined.rest(), b"");
    joined.send("answer");
    assert_eq!(caller.read(6), b"answer");
    drop(joined);
    assert_eq!(caller.rest(), b"");
}

#[test]
fn every_refusal_is_the_originals() {
    const KEY: &str = r#"{"success":false,"error":"Invalid or missing 'X-Remoted-APIKey' header.","errorcode":"invalid_missing_apikey"}"#;
    const NOBODY: &str = r#"{"success":false,"error":"Requested destination does not exist at this time.","errorcode":"missing_destination"}"#;
    const CALLER: &str = r#"{"success":false,"error":"Invalid request.  Expected WebRoute upgrade.","errorcode":"invalid_request"}"#;
    const SERVER: &str = r#"{"success":false,"error":"Invalid request.  Expected WebSocket or WebRoute upgrade.","errorcode":"invalid_request"}"#;

    let scene = Scene::new();
    let (server, client) = (scene.keys.server.as_str(), scene.keys.client.as_str());
    let _registered = scene.register("/live");
    let call = webroute("/live", "x", client);
    let serve = websocket("/new", server);
    let without = |request: &str, line: &str| {
        assert!(request.contains(line), "{line}");
        let kept = request.split("\r\n").filter(|found| !found.starts_with(line));
        kept.collect::<Vec<_>>().join("\r\n")
    };
    let cases = [
        (without(&call, "X-Remoted-APIKey"), 403, KEY),
        (webroute("/live", "x", "wrong"), 403, KEY),
        (webroute("/live", "x", &client[1..]), 403, KEY),
        ("GET /live HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 403, KEY),
        (webroute("/nobody", "x", client), 502, NOBODY),
        // Without a registered server nothing else matters.
        (format!("POST /nobody HTTP/1.1\r\nX-Remoted-APIKey: {client}\r\n\r\n"), 502, NOBODY),
        (format!("GET /live HTTP/1.1\r\nx-remoted-apikey: {client}\r\n\r\n"), 400, CALLER),
        (call.replace("GET ", "POST "), 400, CALLER),
        (websocket("/live", client), 400, CALLER),
        (format!("GET /live HTTP/1.1\r\nX-REMOTED-APIKEY: {server}\r\n\r\n"), 400, SERVER),
        (webroute("/live", "unknown", server), 400, SERVER),
        (without(&websocket("/live", server), "Origin"), 400, SERVER),
        (without(&call, "WebRoute-Version"), 426, ""),
        (call.replace("WebRoute-Version: 1", "WebRoute-Version: 2"), 426, ""),
        (without(&call, "WebRoute-ID"), 400, ""),
        (webroute("/live", &"x".repeat(5000), client), 400, ""),
        (serve.replace("Version: 13", "Version: 12"), 426, ""),
        (without(&serve, "Sec-WebSocket-Key"), 400, ""),
        (without(&serve, "Origin"), 403, ""),
    ];
    for (request, status, body) in cases {
        let mut wire = scene.connect();
        wire.send(&request);
        let (head, found) = wire.answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{head}");
        assert_eq!(found, body, "{request}");
        let has = |field: &str| head.contains(&format!("\r\n{field}\r\n"));
        assert_eq!(has("Content-Type: application/json"), !body.is_empty(), "{head}");
        assert_eq!(head.contains("\r\nCache-Control: no-"), !body.is_empty(), "{head}");
        if status == 426 {
            let of_webroute = request.contains("webroute");
            // Names the supported version.
            assert!(has(if of_webroute {
                "WebRoute-Version: 1"
            } else {
                "Sec-WebSocket-Version: 13"
            }));
        }
        // A refused WebSocket is closed, and has not taken the path.
        if request.contains("/new") {
            assert!(has("Connection: close"), "{head}");
            assert_eq!(wire.rest(), b"");
            continue;
        }
        // All others allow another attempt on the same connection.
        wire.send(webroute("/nobody", "x", client));
        assert!(wire.head().starts_with("HTTP/1.1 502 "), "{request}");
    }
    drop(scene.register("/new"));
}

#[test]
fn a_server_that_never_comes_is_504_and_the_id_is_free_again() {
    let scene = Scene::with(|settings| settings.times.wait = Duration::from_millis(300));
    let mut server = scene.register(PATH);
    for _ in 0..2 {
        let begun = Instant::now();
        let mut caller = scene.call(PATH, ID);
        assert_eq!(server.notice()["id"], ID);
        let head = caller.head();
        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
        for field in ["WebRoute-Version: 1", "Connection: close"] {
            assert!(head.contains(&format!("\r\n{field}\r\n")), "{head}");
        }
        assert_eq!(caller.rest(), b"");
        assert!(begun.elapsed() >= Duration::from_millis(300));
        let (head, _) = scene.join(PATH, ID).answer();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
}

#[test]
fn the_notice_says_how_long_the_caller_would_wait_but_no_less_than_a_minute() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    for (given, told) in [("5", 60), ("3600", 3600), ("soon", 60), ("0", 60), ("-7", 60)] {
        let mut caller = scene.connect();
        let request = webroute(PATH, ID, &scene.keys.client);
        caller.send(request.replace("Timeout: 60", &format!("Timeout: {given}")));
        assert_eq!(server.notice()["timeout"], told, "{given}");
        // It disconnects, and its id can be used again as soon as that was detected.
        drop(caller);
        wait_until_free(&scene);
    }
}

/// Waits until no caller waits with this id.
fn wait_until_free(scene: &Scene) {
    let until = Instant::now() + crate::support::PATIENCE;
    loop {
        let mut probe = scene.join(PATH, ID);
        let head = probe.head();
        // Either refused, or joined with a caller that has disconnected.
        if head.starts_with("HTTP/1.1 400 ") {
            return;
        }
        assert!(Instant::now() < until);
    }
}

#[test]
fn the_joined_are_reset_when_nothing_moves_for_the_smaller_of_both_times() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    let mut caller = scene.connect();
    caller.send(webroute(PATH, ID, &scene.keys.client).replace("Timeout: 60", "Timeout: 3600"));
    server.notice();
    let mut joined = scene.connect();
    joined.send(webroute(PATH, ID, &scene.keys.server).replace("Timeout: 60", "Timeout: 1"));
    caller.head();
    joined.head();
    let begun = Instant::now();
    for end in [&mut caller, &mut joined] {
        let error = end.socket.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(900) && waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn a_silent_server_is_pinged_and_one_that_stays_silent_loses_its_path() {
    let scene = Scene::with(|settings| {
        settings.times.ping_after = Duration::from_millis(100);
        settings.times.pong_within = Duration::from_millis(500);
    });
    let mut server = scene.register(PATH);
    for _ in 0..2 {
        let (first, payload) = server.frame();
        assert_eq!(first, 0x89);
        // The time, as text.
        let time: u64 = std::str::from_utf8(&payload).unwrap().parse().unwrap();
        assert!(time > 1_700_000_000, "{time}");
        server.send(frame(0x8a, &payload));
    }
    let mut caller = scene.call(PATH, ID);
    let (mut first, mut pings) = (0, 0);
    while first != 0x81 {
        first = server.frame().0;
        pings += u32::from(first == 0x89);
    }
    assert!(pings <= 1, "{pings} unanswered pings");
    // Silent from here on. Its caller is closed with it, and later ones get a refusal.
    assert_eq!(caller.rest(), b"");
    let (head, _) = scene.call(PATH, ID).answer();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[test]
fn pings_of_a_server_are_answered() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    server.send(frame(0x89, b"are you there"));
    assert_eq!(server.frame(), (0x8a, b"are you there".to_vec()));
    // A proper close frame is returned.
    server.send(frame(0x88, &1000_u16.to_be_bytes()));
    assert_eq!(server.frame(), (0x88, 1000_u16.to_be_bytes().to_vec()));
    assert_eq!(server.rest(), b"");
}

#[test]
fn when_a_server_goes_its_waiting_callers_do_and_joined_ones_stay() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    let (mut joined_caller, mut joined_server) = scene.joined(PATH, "joined");
    let mut waiting = scene.call(PATH, "waiting");
    server.notice();
    server.notice();
    drop(server);
    assert_eq!(waiting.rest(), b"");
    let (head, _) = scene.call(PATH, ID).answer();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    joined_caller.send("still here");
    assert_eq!(joined_server.read(10), b"still here");
    // Its path is free at once.
    drop(scene.register(PATH));
}

#[test]
fn paths_are_looked_up_without_the_query_and_ids_with_it() {
    let scene = Scene::new();
    let mut server = scene.register(PATH);
    let mut caller = scene.call("/test/path/?a=1", ID);
    assert_eq!(server.notice()["id"], ID);
    let (head, _) = scene.join(PATH, ID).answer();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let mut joined = scene.join("/test/path/?a=1", ID);
    assert!(joined.head().starts_with("HTTP/1.1 101 "));
    assert!(caller.head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn a_returning_server_takes_its_path_from_its_dead_connection_only() {
    let keys = Keys::new();
    keys.write(&[entry("other", "server", "*", "another-key")]);
    let scene = Scene::of(keys, |settings| settings.times.probe = Duration::from_millis(300));
    let mut holder = scene.register(PATH);
    let mut waiting = scene.call(PATH, ID);
    holder.notice();

    // A live holder answers the ping, and the newcomer is refused.
    let mut newcomer = scene.connect();
    newcomer.send(websocket(PATH, &scene.keys.server));
    let (first, payload) = holder.frame();
    assert_eq!(first, 0x89);
    holder.send(frame(0x8a, &payload));
    assert!(newcomer.answer().0.starts_with("HTTP/1.1 400 "));

    // Another key is refused without a probe.
    let mut stranger = scene.connect();
    stranger.send(websocket(PATH, "another-key"));
    assert!(stranger.answer().0.starts_with("HTTP/1.1 400 "));

    // A holder that does not answer in time loses the path to the same key.
    let begun = Instant::now();
    newcomer.send(websocket(PATH, &scene.keys.server));
    let head = newcomer.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(5), "{waited:?}");
    assert_eq!(waiting.rest(), b"");
    let _caller = scene.call(PATH, "new");
    assert_eq!(newcomer.notice()["id"], "new");
    // The old one gets a close frame, if it still reads.
    assert_eq!(holder.frame().0, 0x89);
    assert_eq!(holder.frame().0, 0x88);
    drop(holder);
    // Its end does not free the path.
    let _caller = scene.call(PATH, "newer");
    assert_eq!(newcomer.notice()["id"], "newer");
}
