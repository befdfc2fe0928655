//! The caller's answer for every outcome of a handler, in both directions.

use restpipe::event::Reply;
use restpipe::handler::{Failure, Router};
use serde_json::json;

use crate::support::inside::Pair;
use crate::support::peer::Peer;
use crate::support::tls::dialing;
use crate::support::{self, Identities, Setup, message};

fn as_it_is(_role: &str, setup: Setup) -> Setup {
    setup
}

#[test]
fn a_reply_keeps_its_code_media_type_and_bytes() {
    let router = || {
        Router::new()
            .on("get_text", |_, _| Ok("some text"))
            .on("get_nothing", |_, _| Ok(()))
            .on("get_json", |_, _| Ok(json!({ "b": [1, 2.5, null], "a": "é\n" })))
            .on("get_seven", |_, _| Ok(Reply::new("a/b", "x").with_code(7)))
            .on("get_most", |_, _| Ok(Reply::new("a/b", "x").with_code(u32::MAX)))
            .on("get_made", |_, _| {
                let mut reply = Reply::new("a/b", "x");
                reply.status = Some(201);
                reply.headers.push(("Location".to_owned(), "/there".to_owned()));
                Ok(reply)
            })
    };
    let pair = Pair::new(router, as_it_is);
    for (asker, peer) in pair.both() {
        let cases = [
            ("text", 200, "0", Some("text/plain; charset=utf-8"), "some text"),
            ("nothing", 200, "0", None, ""),
            (
                "json",
                200,
                "0",
                Some("application/json"),
                r#"{"b": [1, 2.5, null], "a": "\u00e9\n"}"#,
            ),
            ("seven", 200, "7", Some("a/b"), "x"),
            ("most", 200, "4294967295", Some("a/b"), "x"),
            ("made", 201, "0", Some("a/b"), "x"),
        ];
        for (noun, status, code, media_type, body) in cases {
            let answer = asker.get(&format!("{peer}/{noun}"));
            assert_eq!(answer.status, status, "{peer}/{noun}");
            assert_eq!(answer.header("X-Event-Return-Code"), Some(code), "{peer}/{noun}");
            assert_eq!(answer.header("Content-Type"), media_type, "{peer}/{noun}");
            assert_eq!(answer.text(), body, "{peer}/{noun}");
        }
        assert_eq!(asker.get(&format!("{peer}/made")).header("Location"), Some("/there"));
    }
}

#[test]
fn what_no_handler_answers_is_404_or_405() {
    let router =
        || Router::new().on("get_a_b", |_, _| Ok("yes")).on("delete_a_b", |_, _| Ok("yes"));
    let pair = Pair::new(router, as_it_is);
    for (asker, peer) in pair.both() {
        let answer = asker.get(&format!("{peer}/a/c"));
        assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (404, Some("255")));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.json()["error"], "unhandled");
        assert!(answer.json()["message"].as_str().unwrap().contains("get_a_c"), "{answer:?}");

        let answer = asker.ask("POST", &format!("{peer}/a/b"), &[], b"body");
        assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (405, Some("255")));
        assert_eq!(answer.header("Allow"), Some("GET, DELETE"));
        assert_eq!(answer.json()["error"], "wrong_verb");
        assert!(answer.json()["message"].is_string(), "{answer:?}");
        assert_eq!(asker.get(&format!("{peer}/a/b")).status, 200);
    }
}

#[test]
fn a_failing_handler_is_500_and_tells_its_trace_only_when_debugging() {
    let router = || {
        Router::new()
            .on("get_number", |_, event| {
                let number: u32 = event.target.parameters().concat().parse()?;
                Ok(json!(number))
            })
            .on("get_odd", |_, _| Err::<(), _>(Failure::exception("Odd", "all \"wrong\"")))
    };
    // The handling side decides; debugging on the asking side does not affect its peer.
    let debug = |role: &str, setup: Setup| {
        if role == "client" { setup.set("DEBUG", 1) } else { setup }
    };
    let pair = Pair::new(router, debug);
    for (asker, peer) in pair.both() {
        assert_eq!(asker.get(&format!("{peer}/number//5")).text(), "5");

        let answer = asker.get(&format!("{peer}/number//five"));
        assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (500, Some("251")));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        let body = answer.json();
        assert!(body["error"].is_string() && body["message"].is_string(), "{body}");
        assert_eq!(body["exception"]["class"], "ParseIntError");
        assert_eq!(body["exception"]["message"], "invalid digit found in string");
        let trace = body["exception"]["traceback"].as_str().unwrap();
        if peer.starts_with("/client") {
            assert!(trace.contains(file!()), "{trace:?}");
        } else {
            assert_eq!(trace, "");
        }

        let body = asker.get(&format!("{peer}/odd")).json();
        assert_eq!(body["exception"]["class"], "Odd");
        assert_eq!(body["exception"]["message"], "all \"wrong\"");
    }
}

#[test]
fn a_panicking_handler_costs_its_own_request_only() {
    let router = || {
        Router::new()
            .on("get_panic", |_, _| -> Result<(), Failure> { panic!("on purpose") })
            .on("get_fine", |_, _| Ok("fine"))
    };
    let pair = Pair::new(router, as_it_is);
    for (asker, peer) in pair.both() {
        for _ in 0..20 {
            let answer = asker.get(&format!("{peer}/panic"));
            assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (500, Some("251")));
            assert_eq!(answer.json()["exception"]["traceback"], "");
            assert!(!answer.text().contains("on purpose"), "{answer:?}");
        }
        assert_eq!(asker.get(&format!("{peer}/fine")).text(), "fine");
    }
}

#[test]
fn parameters_and_query_arrive_piece_by_piece() {
    let router = || {
        Router::new().on("get_echo", |_, event| {
            let target = &event.target;
            let x = target.query_value("x");
            Ok(json!([target.parameters(), target.query(), x]))
        })
    };
    let pair = Pair::new(router, as_it_is);
    for (asker, peer) in pair.both() {
        let cases = [
            ("", r#"[[], [], null]"#),
            ("//a/b", r#"[["a", "b"], [], null]"#),
            ("//a%2Fb/100%25/%252F", r#"[["a/b", "100%", "%2F"], [], null]"#),
            ("//hello%20/+world", r#"[["hello ", "+world"], [], null]"#),
            ("//%C3%A9/%00/%0D%0A", r#"[["\u00e9", "\u0000", "\r\n"], [], null]"#),
            ("//a?x=1&y=%26%3D&x=2", r#"[["a"], [["x", "1"], ["y", "&="], ["x", "2"]], "1"]"#),
            ("?x=a%2Fb", r#"[[], [["x", "a/b"]], "a/b"]"#),
        ];
        for (rest, expected) in cases {
            let answer = asker.get(&format!("{peer}/echo{rest}"));
            assert_eq!((answer.status, answer.text()), (200, expected), "{peer}/echo{rest}");
        }
    }
}

#[test]
fn every_verb_and_any_byte_passes_both_ways() {
    let router = || {
        ["get", "post", "put", "delete", "patch", "options"].into_iter().fold(
            Router::new(),
            |router, verb| {
                router.on(&format!("{verb}_echo"), move |_, event| {
                    let mut reply = Reply::new(event.media_type.clone(), event.body.take_out());
                    reply.headers.push(("X-Verb".to_owned(), verb.to_owned()));
                    Ok(reply)
                })
            },
        )
    };
    let pair = Pair::new(router, as_it_is);
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    for (asker, peer) in pair.both() {
        let path = format!("{peer}/echo");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GET"] {
            let headers = [("Content-Type", "application/x-bytes")];
            let answer = asker.ask(method, &path, &headers, &bytes);
            assert_eq!(answer.status, 200, "{method}: {answer:?}");
            assert_eq!(answer.header("X-Verb"), Some(method.to_ascii_lowercase().as_str()));
            assert_eq!(answer.header("Content-Type"), Some("application/x-bytes"));
            assert_eq!(answer.body, bytes, "{method}");
        }
        let answer = asker.ask("TRACE", &path, &[], b"");
        assert!((400..600).contains(&answer.status), "{answer:?}");
        assert!(answer.json()["error"].is_string());
    }
}

#[test]
fn head_is_get_without_the_body() {
    let pair = Pair::new(|| Router::new().on("get_text", |_, _| Ok("some text")), as_it_is);
    for (asker, peer) in pair.both() {
        let answer = asker.ask("HEAD", &format!("{peer}/text"), &[], b"");
        assert_eq!((answer.status, answer.header("Content-Length")), (200, Some("9")));
        assert_eq!(answer.header("X-Event-Return-Code"), Some("0"));
        assert_eq!(answer.body, b"");
        let answer = asker.ask("HEAD", &format!("{peer}/other"), &[], b"");
        assert_eq!((answer.status, answer.body.len()), (404, 0));
    }
}

#[test]
fn a_body_longer_than_a_node_holds_passes_in_pieces() {
    const LEAST: usize = 1000;
    const MOST: usize = 5000;
    let router =
        || Router::new().on("post_echo", |_, event| Ok(Reply::new("a/b", event.body.take_out())));
    let limits = |role: &str, setup: Setup| {
        setup.set("RP_MAX_BODY_BYTES", if role == "server" { LEAST } else { MOST })
    };
    let pair = Pair::new(router, limits);
    for (asker, peer) in pair.both() {
        for length in [0, 1, LEAST, LEAST + 1, MOST, MOST + 1, 20_000] {
            let body: Vec<u8> = (0..length).map(|i| (i / 7) as u8).collect();
            let answer = asker.ask("POST", &format!("{peer}/echo"), &[], &body);
            assert_eq!((answer.status, answer.body.len()), (200, length), "{peer}");
            assert!(answer.body == body);
        }
    }
}

#[test]
fn an_original_peer_gets_and_gives_what_is_held_and_no_more() {
    const MOST: usize = 10;
    let identities = Identities::new(&["original"]);
    let router = Router::new().on("get_text", |_, _| Ok("more than ten bytes"));
    let server = support::server(&identities).set("RP_MAX_BODY_BYTES", MOST).serve(router);
    let config = dialing(Some((&identities, "original")));
    let mut original = Peer::dial(server.pipe(), config).unwrap();

    // A reply that is too long is reduced to its code: there is no room for more.
    original.send(&message::event(7, "get", "text", b"")).unwrap();
    let expected = message::reply(7, "", 251, b"");
    assert_eq!(original.frame_of(message::REPLY).bytes(), expected);

    let post = |length| server.ask("POST", "/client/original/x", &[], &vec![b'x'; length]);
    let answer = post(MOST + 1);
    assert_eq!(answer.status, 413);
    assert!(answer.json()["error"].is_string() && answer.json()["message"].is_string());
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| post(MOST));
        let event = original.frame_of(message::EVENT);
        original.send(&message::reply(event.id, "text/plain", 0, b"fine")).unwrap();
        asked.join().unwrap()
    });
    assert_eq!((asked.status, asked.text()), (200, "fine"));
}

#[test]
fn a_body_larger_than_any_that_is_held_passes() {
    const LENGTH: usize = 16 * 1024 * 1024 + 1;
    let router =
        || Router::new().on("post_echo", |_, event| Ok(Reply::new("a/b", event.body.take_out())));
    let pair = Pair::new(router, as_it_is);
    let body: Vec<u8> = (0..LENGTH).map(|i| (i / 7) as u8).collect();
    for (asker, peer) in pair.both() {
        let answer = asker.ask("POST", &format!("{peer}/echo"), &[], &body);
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "the body came back changed");
    }
}

#[test]
fn identities_made_for_one_test_do_not_work_in_another() {
    // Guards the other tests here: with two identical CAs none of them would fail.
    let (ours, theirs) = (Identities::new(&["client-1"]), Identities::new(&["client-1"]));
    let server = support::server(&ours).serve(Router::new());
    let client = support::client(&theirs, "client-1", server.pipe()).dial(Router::new());
    let answer = client.ask("GET", "/server/x", &[("RP-Wait", "1")], b"");
    assert_eq!(answer.status, 503);
}
