//! Every byte in every place: no extra header line at the service or the caller, no extra line in a
//! log.

use std::io::{Read, Write};
use std::net::TcpStream;

use crossbeam_channel::unbounded;

use super::harness::{CLIENT, Scene, Scripted, field, reply};
use crate::support::{Identities, PATIENCE, client, server};

/// The headers that a service may see in a plain request.
const KNOWN: [&str; 8] = [
    "Host",
    "RP-Peer-Name",
    "RP-Peer-Fingerprint",
    "RP-Peer-Address",
    "RP-Request-Id",
    "Content-Type",
    "X-Forwarded-Host",
    "Content-Length",
];

#[test]
fn every_byte_of_a_request_is_carried_or_refused() {
    let (told, heads) = unbounded();
    let service = Scripted::start(move |_, visit| {
        while let Some((head, _)) = visit.request() {
            told.send(head).unwrap();
            visit.send(reply("ok"));
        }
    });
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe())
        .set("RP_EVENT_HANDLER", format!("http://{}/api", service.address))
        .start();
    client.get_when_up("/server/time");
    let (before, others) = (server.log().len(), client.log().len());

    let mut passed = 0;
    for byte in 0..=255u8 {
        for (place, encoded) in [
            ("path", false),
            ("path", true),
            ("query", false),
            ("query", true),
            ("name", false),
            ("value", false),
            ("type", false),
        ] {
            let sent: Vec<u8> =
                if encoded { format!("%{byte:02x}").into_bytes() } else { vec![byte] };
            let at = |here: &str| if here == place { sent.as_slice() } else { &b""[..] };
            let request = [
                b"GET ",
                CLIENT.as_bytes(),
                b"a",
                at("path"),
                b"Evil:b?c",
                at("query"),
                b"Evil:d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX",
                at("name"),
                b"Evil: e",
                at("value"),
                b"Evil: f\r\nContent-Type: a/b",
                at("type"),
                b"Evil: g\r\n\r\n",
            ]
            .concat();
            let mut socket = TcpStream::connect(server.http()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.write_all(&request).unwrap();
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            let status = crate::support::parse_answer(&answer).status;
            let shown = format!("byte {byte} in the {place}");
            if status != 200 {
                // A blank in the path turns the rest into a version.
                assert!(
                    status == 400
                        || (status == 505 && byte == b' ' && matches!(place, "path" | "query")),
                    "{shown}"
                );
                assert!(heads.is_empty(), "{shown} was asked, and refused");
                continue;
            }
            passed += 1;
            let head = heads.recv_timeout(PATIENCE).unwrap();
            let mut lines = head.strip_suffix("\r\n\r\n").unwrap().split("\r\n");
            let line = lines.next().unwrap();
            let path = [b"GET /api/a", at("path"), b"Evil:b?c", at("query"), b"Evil:d HTTP/1.1"];
            assert_eq!(line.as_bytes(), path.concat(), "{shown}");
            for line in lines {
                let (name, value) = line.split_once(": ").unwrap();
                let is_ours = KNOWN.contains(&name) || name.starts_with('X');
                assert!(is_ours && !value.contains(['\r', '\n', '\0']), "{shown}: {line:?}");
            }
            assert_eq!(field(&head, "RP-Peer-Name"), Some("localhost"));
        }
    }
    assert!(passed > 700, "{passed} passed");
    // The nodes log each refusal in one line.
    for (node, skip) in [(&server, before), (&client, others)] {
        for line in &node.log()[skip..] {
            assert!(line.contains(" WARN ") || line.contains(" INFO "), "{line:?}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn every_byte_of_a_reply_is_carried_or_refused() {
    let service = Scripted::start(|_, visit| {
        while let Some((head, _)) = visit.request() {
            let mut path = head.split(['/', ' ']).skip(2);
            let place = path.next().unwrap();
            let byte = path.next().unwrap().parse().unwrap();
            let at = |here: &str| if here == place { vec![byte] } else { Vec::new() };
            let bytes = [
                b"HTTP/1.1 200 O".as_slice(),
                &at("reason"),
                b"Evil: a\r\nX",
                &at("name"),
                b"Evil: b",
                &at("value"),
                b"Evil: c\r\nContent-Type: d/e",
                &at("type"),
                b"Evil: f\r\nContent-Length: 2\r\n\r\nok",
            ]
            .concat();
            if !visit.send(bytes) {
                return;
            }
        }
    });
    let scene = Scene::new(service.service(""));
    let ours = ["Date", "Server", "Content-Type", "X-Event-Return-Code", "RP-Request-Id"];
    let framing = ["Content-Length", "Connection", "Content-Security-Policy"];
    let mut passed = 0;
    for byte in 0..=255u8 {
        for place in ["reason", "name", "value", "type"] {
            let answer = scene.get(&format!("{place}/{byte}"));
            let shown = format!("byte {byte} in the {place}");
            assert!(matches!(answer.status, 200 | 502), "{shown}: {answer:?}");
            for line in answer.head.split("\r\n").skip(1) {
                let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                let is_known = ours.contains(&name) || framing.contains(&name);
                assert!(is_known || name.starts_with('X'), "{shown}: {line:?}");
                assert!(
                    value.chars().all(|c| matches!(c, '\t' | ' '..='~' | '\u{80}'..='\u{ff}')),
                    "{shown}: {line:?}"
                );
            }
            if answer.status == 200 {
                assert_eq!(answer.text(), "ok", "{shown}");
                passed += 1;
            }
        }
    }
    assert!(passed > 500, "{passed} passed");
}

#[test]
fn the_path_arrives_as_it_was_sent() {
    let service = Scripted::start(|_, visit| {
        while let Some((head, _)) = visit.request() {
            visit.send(reply(head.split(' ').nth(1).unwrap()));
        }
    });
    for (prefix, at) in [("", "/"), ("/api/v%201", "/api/v%201/")] {
        let scene = Scene::new(service.service(prefix));
        for path in [
            "",
            "/",
            "//",
            "a",
            "a/",
            "a//",
            "a//b///c//",
            "a%2Fb%2fc",
            "%41%zz%",
            "?",
            "?a=b&&c=%26",
            "a?b?c",
            "a//?b",
            "a;b=c/~!$&'()*+,:@",
            "a|b^c`{d}\"<>",
            "a/.b/..c",
            "%C3%A4//%F0%9F%98%80",
            "http://x/",
        ] {
            let answer = scene.get(path);
            assert_eq!((answer.status, answer.text()), (200, format!("{at}{path}").as_str()));
        }
    }
}

#[test]
fn nobody_can_pretend_to_be_another_peer() {
    let (told, heads) = unbounded();
    let service = Scripted::start(move |_, visit| {
        while let Some((head, _)) = visit.request() {
            told.send(head).unwrap();
            visit.send("HTTP/1.1 200 OK\r\nX-Named: 1\r\nX-Kept: 2\r\nConnection: x-named\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let scene = Scene::new(service.service(""));
    let answer = scene.ask(
        "GET",
        "x",
        &[
            ("RP-Peer-Name", "forged"),
            ("rp_peer_name", "forged"),
            ("RP_Peer_Fingerprint", "forged"),
            ("RP-Peer-Address", "forged"),
            ("RP-Peer-Role", "forged"),
            ("rp.peer.anything", "forged"),
            ("Rp.Request.Id", "forged"),
            ("X_Forwarded_Host", "forged"),
            ("X-Named", "1"),
            ("X-Request-Id", "mine"),
            ("Cookie", "kept"),
        ],
        b"",
    );
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(!head.contains("forged"), "{head}");
    for (name, value) in [
        ("RP-Peer-Name", "localhost"),
        ("RP-Peer-Address", "127.0.0.1"),
        ("RP-Request-Id", "mine"),
        ("X-Request-Id", "mine"),
        ("X-Forwarded-Host", "localhost"),
        ("Cookie", "kept"),
        ("Host", &service.address.to_string()),
    ] {
        assert_eq!(field(&head, name), Some(value), "{head}");
    }
    let fingerprint = field(&head, "RP-Peer-Fingerprint").unwrap();
    assert_eq!(fingerprint.len(), 64, "{head}");
    assert_eq!((answer.header("X-Named"), answer.header("X-Kept")), (None, Some("2")));
}
