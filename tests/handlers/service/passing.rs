//! What only passes is not judged, and what acts on more than the reply does not pass.

use std::io::Write;
use std::sync::Arc;

use crossbeam_channel::unbounded;
use restpipe::handler::{Mounts, Role, example};

use super::harness::{CLIENT, Scene, Scripted, field, read_answer, reply};
use crate::support::PATIENCE;

/// Bytes as the tests see them in heads: each is the character of the same number.
fn seen(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[test]
fn bytes_above_127_pass_in_both_directions() {
    const SENT: [(&str, &[u8]); 5] = [
        ("Cookie", "town=Zürich; a=b".as_bytes()),
        ("X-Latin", b"Z\xfcrich"),
        ("X-All", b"\x80\x81\xa0\xc0\xff a\xfe"),
        ("Content-Type", "text/plain; name=\"Zürich\"".as_bytes()),
        ("X-Request-Id", b"\xe4"),
    ];
    const REPLIED: [(&str, &[u8]); 5] = [
        ("Location", "/Zürich".as_bytes()),
        ("Set-Cookie", b"town=Z\xfcrich; Path=/"),
        ("Content-Disposition", "attachment; filename=\"Zürich.txt\"".as_bytes()),
        ("X-All", b"\x80\x81\xa0\xc0\xff a\xfe"),
        ("Content-Type", b"text/plain; name=\"Z\xfcrich\""),
    ];
    let lines = |fields: &[(&str, &[u8])]| {
        let line =
            |(name, value): &(&str, &[u8])| [name.as_bytes(), b": ", value, b"\r\n"].concat();
        fields.iter().flat_map(line).collect::<Vec<u8>>()
    };
    let (told, heads) = unbounded();
    let service = Scripted::start(move |_, visit| {
        while let Some((head, _)) = visit.request() {
            told.send(head).unwrap();
            let fields = [lines(&REPLIED), b"Content-Length: 2\r\n\r\nok".to_vec()].concat();
            visit.send([b"HTTP/1.1 201 Created\r\n", &fields[..]].concat());
        }
    });
    let scene = Scene::new(service.service(""));
    let mut caller = std::net::TcpStream::connect(scene.server.http()).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET {CLIENT}x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    caller.write_all(&[head.as_bytes(), &lines(&SENT), b"\r\n"].concat()).unwrap();
    let answer = read_answer(caller);
    assert_eq!((answer.status, answer.text()), (201, "ok"), "{answer:?}");
    let head = heads.recv_timeout(PATIENCE).unwrap();
    for (name, value) in SENT {
        assert_eq!(field(&head, name), Some(seen(value).as_str()), "{head}");
    }
    for (name, value) in REPLIED {
        assert_eq!(answer.header(name), Some(seen(value).as_str()), "{answer:?}");
    }
}

#[test]
fn a_service_is_sent_any_query_and_a_handler_of_ours_only_what_it_can_read() {
    let service = Scripted::start(|_, visit| {
        while let Some((head, _)) = visit.request() {
            visit.send(reply(head.split(' ').nth(1).unwrap()));
        }
    });
    let mounts = Mounts::new()
        .at("web", Arc::new(service.service("/api")))
        .otherwise(Arc::new(example(Role::Client)));
    let scene = Scene::new(mounts);
    let fields = format!("?{}", "a=b&".repeat(300));
    let parameters = format!("//{}", "a/".repeat(300));
    let both = format!("{parameters}?%FC");
    for rest in ["?%FC", "?a=%fc&b", "?%00", "?a=b?c&&=", &fields, &parameters, &both] {
        let answer = scene.get(&format!("web/x{rest}"));
        assert_eq!((answer.status, answer.text()), (200, format!("/api/x{rest}").as_str()));
    }
    for rest in ["?%FC", "?a=%fc&b", &fields, &parameters, &both] {
        let answer = scene.get(&format!("cat{rest}"));
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("bad_path")));
        assert_eq!(answer.header("X-Event-Return-Code"), Some("400"), "it reached the other side");
    }
    assert_eq!(scene.get("cat//a?b=c").text(), r#"{"result_from_client": "a"}"#);
}

#[test]
fn request_ids_of_others_pass_and_ours_is_its_own() {
    let (told, heads) = unbounded();
    let service = Scripted::start(move |_, visit| {
        while let Some((head, _)) = visit.request() {
            told.send(head).unwrap();
            visit.send(
                "HTTP/1.1 200 OK\r\nX-Request-Id: of the service!\r\nRP-Request-Id: forged\r\n\
                 Content-Length: 2\r\n\r\nok",
            );
        }
    });
    let scene = Scene::new(service.service(""));
    for (sent, ours) in [
        (&[("X-Request-Id", "from {elsewhere}")][..], None),
        (&[("X-Request-Id", "a-1")], Some("a-1")),
        (&[("X-Request-Id", "a-1"), ("RP-Request-Id", "b-2")], Some("b-2")),
        (&[("RP-Request-Id", "b-2")], Some("b-2")),
    ] {
        let answer = scene.ask("GET", "x", sent, b"");
        let head = heads.recv_timeout(PATIENCE).unwrap();
        let foreign = sent.iter().find(|(name, _)| *name == "X-Request-Id").map(|(_, id)| *id);
        assert_eq!(field(&head, "X-Request-Id"), foreign);
        assert_eq!(answer.header("X-Request-Id"), Some("of the service!"));
        let id = answer.header("RP-Request-Id").unwrap();
        assert_eq!(field(&head, "RP-Request-Id"), Some(id), "{answer:?}");
        match ours {
            Some(ours) => assert_eq!(id, ours),
            None => assert_eq!(id.len(), 16, "{id}"),
        }
    }
}

#[test]
fn a_reply_steers_neither_a_web_server_nor_a_browser() {
    const STEERING: [&str; 16] = [
        "X-Accel-Redirect",
        "x-accel-buffering",
        "X-Sendfile",
        "X-Sendfile-Temporary",
        "X-LIGHTTPD-send-file",
        "X-Reproxy-URL",
        "X-LiteSpeed-Location",
        "X-Envoy-Immediate-Health-Check-Fail",
        "Surrogate-Control",
        "Service-Worker-Allowed",
        "Clear-Site-Data",
        "Strict-Transport-Security",
        "Public-Key-Pins",
        "Alt-Svc",
        "NEL",
        "Report-To",
    ];
    const KEPT: [&str; 5] =
        ["Set-Cookie", "Location", "Content-Security-Policy", "X-Frame-Options", "Link"];
    let fields =
        |names: &[&str]| names.iter().map(|name| format!("{name}: /x\r\n")).collect::<String>();
    let said = format!(
        "HTTP/1.1 200 OK\r\n{}{}Content-Length: 2\r\n\r\nok",
        fields(&STEERING),
        fields(&KEPT)
    );
    let scene = Scene::new(Scripted::saying(said).service(""));
    let answer = scene.get("x");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    for name in STEERING {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
    for name in KEPT {
        let mut values = answer.head.lines().filter_map(|line| line.split_once(": "));
        assert!(values.any(|(found, value)| found == name && value == "/x"), "{name}: {answer:?}");
    }
}
