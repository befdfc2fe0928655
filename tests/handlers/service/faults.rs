//! Services that stall, truncate a body, or answer garbage; and path traversal.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;

use super::harness::{CLIENT, Scene, Scripted, error, field, read_all, reply};
use crate::support::inside::timed;
use crate::support::{Identities, PATIENCE, client, server};

#[test]
fn a_service_that_does_not_reply_is_left() {
    // By its own limit or by that of the caller's node, whichever is shorter.
    for (own, callers, expected) in
        [(0.5, "20", (504, "service_timeout")), (20.0, "0.5", (504, "no_reply"))]
    {
        for says in ["", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 100 Continue\r\n\r\n"] {
            let (ended, closed) = unbounded();
            let service = Scripted::start(move |_, visit| {
                visit.request();
                visit.send(says);
                ended.send(visit.wait_closed().0).unwrap();
            });
            let own = Duration::from_secs_f64(own);
            let service = service.service("").with_reply_timeout(own);
            let scene = Scene::with(service, |setup| setup.set("RP_REPLY_TIMEOUT_S", callers));
            let (answer, took) = timed(|| scene.get("x"));
            let (status, word) = error(&answer);
            assert_eq!((status, word.as_str()), expected, "{says:?}");
            assert!(took < Duration::from_secs(3), "{took:?}");
            let closed = closed.recv_timeout(PATIENCE).unwrap();
            assert!(closed < Duration::from_secs(2), "it was held for {closed:?}");
        }
    }
}

/// As configured, and logged.
#[test]
fn the_limit_is_that_of_the_node() {
    let service = Scripted::start(|_, visit| {
        visit.request();
        visit.wait_closed();
    });
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe())
        .set("RP_EVENT_HANDLER", format!("api=http://{}/v1", service.address))
        .set("RP_REPLY_TIMEOUT_S", "0.5")
        .start();
    client.get_when_up("/server/time");
    let answer = server.get(&format!("{CLIENT}api/x"));
    assert_eq!(error(&answer), (504, "service_timeout".into()));
    let said = format!("the service at http://{}/v1 did not reply within 0.5 s", service.address);
    assert_eq!(answer.json()["message"], said.as_str());
    client.wait_log(&["WARN", "localhost: request ", "get x", &said]);
}

#[test]
fn a_small_body_that_stalls_is_left_too() {
    let service = Scripted::start(|_, visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        visit.wait_closed();
    });
    let scene = Scene::new(service.service("").with_reply_timeout(Duration::from_millis(500)));
    assert_eq!(error(&scene.get("x")), (504, "service_timeout".into()));
}

#[test]
fn a_caller_that_goes_away_ends_the_request_at_once() {
    let large = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc";
    let cases = [
        ("before the head", "GET", "", ""),
        ("in the head", "GET", "", "HTTP/1.1 200 OK\r\n"),
        ("in a small body", "GET", "", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        ("in a large body", "GET", "", large),
        (
            "in chunks",
            "GET",
            "",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
        ("in what the close ends", "GET", "", "HTTP/1.1 200 OK\r\n\r\nabc"),
        ("in an upload", "POST", "Content-Length: 1000000\r\n", ""),
        ("in an upload and its reply", "POST", "Transfer-Encoding: chunked\r\n", large),
    ];
    let (arrived, arrivals) = unbounded();
    let (ended, ends) = unbounded();
    let service = Scripted::start(move |_, visit| {
        while let Some(head) = visit.head() {
            let number: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            visit.send(cases[number].3);
            arrived.send(number).unwrap();
            ended.send(visit.wait_closed()).unwrap();
        }
    });
    let scene = Scene::new(service.service(""));
    for (number, (name, method, fields, _)) in cases.iter().enumerate() {
        let mut socket = scene.open(&format!("{method} {CLIENT}{number}"), fields);
        if !fields.is_empty() {
            socket.write_all(b"5\r\nabcde").unwrap();
        }
        assert_eq!(arrivals.recv_timeout(PATIENCE).unwrap(), number);
        let gone = Instant::now();
        drop(socket);
        ends.recv_timeout(PATIENCE).unwrap();
        assert!(gone.elapsed() < Duration::from_secs(2), "{name}: {:?}", gone.elapsed());
    }
}

#[test]
fn a_body_that_is_cut_is_never_whole() {
    let many = "y".repeat(50_000);
    let cases = [
        // Small ones are read whole first.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned(),
            Some("cut short after 3 bytes"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_owned(),
            Some("cut short after 0 bytes"),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Le".to_owned(), Some("its head is not complete")),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 50001\r\n\r\n{many}"), None),
        (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n{many}\r\n"), None),
        (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc351\r\n{many}"), None),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n{many}\r\n0\r\n"),
            None,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n{many}\r\nzz\r\n"
            ),
            None,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), None),
    ];
    for (text, refused) in cases {
        let shown = text.replace(&many, "...");
        let scene = Scene::new(Scripted::saying(text).service(""));
        let socket = scene.open(&format!("GET {CLIENT}x"), "");
        let bytes = read_until_end(socket);
        let answer = crate::support::parse_answer(&bytes);
        match refused {
            Some(why) => {
                assert_eq!(error(&answer), (502, "bad_answer".into()), "{shown}");
                assert!(answer.text().contains(why), "{shown}: {answer:?}");
            }
            None => {
                assert_eq!(answer.status, 200, "{shown}");
                let whole = match answer.header("Content-Length") {
                    Some(length) => answer.body.len() == length.parse::<usize>().unwrap(),
                    None => answer.body.ends_with(b"0\r\n\r\n"),
                };
                assert!(!whole, "{shown} arrived as if it were whole");
            }
        }
    }
}

/// Reads to the end of an answer on a kept connection, or of the connection.
fn read_until_end(mut socket: std::net::TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            let length =
                field(head, "content-length").map(|length| length.parse::<usize>().unwrap());
            if length.is_some_and(|length| bytes.len() == end + 4 + length) {
                return bytes;
            }
        }
        match socket.read(&mut buffer) {
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            _ => return bytes,
        }
    }
}

#[test]
fn the_end_of_the_connection_may_be_that_of_the_body() {
    for body in ["", "abc", &"z".repeat(100_000)] {
        let text = format!("HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\n{body}");
        let scene = Scene::new(Scripted::saying(text).service(""));
        let socket = scene.open(&format!("GET {CLIENT}x"), "Connection: close\r\n");
        let answer = crate::support::parse_answer(&read_all(socket));
        assert_eq!((answer.status, answer.header("Transfer-Encoding")), (200, Some("chunked")));
        assert!(answer.body.ends_with(b"0\r\n\r\n"), "it is whole");
        let letters = answer.body.iter().filter(|byte| b"abcz".contains(byte)).count();
        assert!(letters >= body.len());
    }
}

#[test]
fn what_is_no_reply_or_two_is_502() {
    let cases = [
        "",
        "\r\n\r\n",
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/2 200\r\ncontent-length: 2\r\n\r\nok",
    ];
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(500));
    let next = std::sync::Mutex::new(String::new());
    let next = std::sync::Arc::new(next);
    let told = std::sync::Arc::clone(&next);
    let service = Scripted::start(move |_, visit| {
        while visit.request().is_some() {
            let text = told.lock().unwrap().clone();
            visit.send(&text);
            if !text.starts_with("HTTP/1.1 299") {
                return;
            }
        }
    });
    let scene = Scene::new(service.service(""));
    for case in cases.into_iter().chain([interim.as_str(), &long, &many]) {
        *next.lock().unwrap() = case.to_owned();
        let answer = scene.get("x");
        let shown: String = case.escape_debug().take(200).collect();
        assert_eq!(error(&answer), (502, "bad_answer".into()), "{shown}");
        *next.lock().unwrap() = "HTTP/1.1 299 OK\r\nContent-Length: 4\r\n\r\nfine".into();
        assert_eq!(scene.get("x").text(), "fine", "behind {shown}");
    }
}

#[test]
fn interim_replies_are_skipped_however_many_there_are() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
         HTTP/1.1 102 Processing\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
         HTTP/1.1 199 X\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n";
    let text = format!("{}{}", interim.repeat(500), reply("final"));
    let scene = Scene::new(Scripted::saying(text).service(""));
    let answer = scene.get("x");
    assert_eq!((answer.status, answer.text(), answer.header("Link")), (200, "final", None));

    // They are no reply: the time for that goes on.
    let endless = Scripted::start(|_, visit| {
        visit.request();
        while visit.send("HTTP/1.1 102 Processing\r\n\r\n") {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let service = endless.service("").with_reply_timeout(Duration::from_millis(500));
    let answer = Scene::new(service).get("x");
    assert_eq!(error(&answer), (504, "service_timeout".into()), "{answer:?}");
}

#[test]
fn a_path_with_a_dot_segment_is_refused_and_not_asked() {
    let service = Scripted::saying(reply("ok"));
    let scene = Scene::new(service.service("/api"));
    for path in [
        "..",
        "../secret",
        "a/../../secret",
        "%2e%2e/secret",
        ".%2E/secret",
        "..%2fsecret",
        "..%5csecret",
        "..\\secret",
        "/../secret",
        "a//../../secret",
        "%252e%252e/secret",
        "..;/secret",
        "..?x",
        "./..",
        "a/../b",
        "a/./b",
        ".",
    ] {
        let answer = scene.get(path);
        assert_eq!(error(&answer), (400, "bad_path".into()), "{path}");
    }
    assert_eq!(service.visits(), 0);
    assert_eq!(scene.get("a/.c/..b//...").text(), "ok");
}
