//! The id of a request: the same for the caller, for the handler, and in the logs of both sides.

use std::collections::HashSet;
use std::thread;

use restpipe::event::Reply;
use restpipe::handler::Router;

use crate::support::inside::Pair;
use crate::support::message::{EVENT, HEARTBEAT, event, heartbeat, message};
use crate::support::peer::Peer;
use crate::support::tls::dialing;
use crate::support::{self, Answer, Identities, Node, client, server};

fn id(answer: &Answer) -> &str {
    let mut lines = answer.head.lines();
    let count =
        lines.by_ref().filter(|line| line.to_lowercase().starts_with("rp-request-id:")).count();
    assert_eq!(count, 1, "{answer:?}");
    answer.header("RP-Request-Id").unwrap()
}

fn is_fresh(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text that no caller and no peer may get into a log.
fn hostile() -> Vec<String> {
    let mut ids: Vec<String> =
        ["a b", "a,b", "a/b", "a*", "*", "%41", "a%0Ab", "\"a\"", "{}", "<b>", "a\tb", "größe"]
            .map(str::to_owned)
            .to_vec();
    ids.extend([65, 256, 8192].map(|length| "x".repeat(length)));
    ids
}

#[test]
fn the_caller_and_the_handler_have_the_same_id() {
    let router = || {
        Router::new().on("get_id", |context, _| Ok(context.request_id.to_string())).on(
            "get_other",
            |_, _| {
                let mut reply = Reply::from("x");
                reply.headers.push(("RP-Request-Id".to_owned(), "another".to_owned()));
                Ok(reply)
            },
        )
    };
    let pair = Pair::new(router, |_, setup| setup);
    for (asker, peer) in pair.both() {
        let path = &format!("{peer}/id");
        let mut seen = HashSet::new();
        for _ in 0..100 {
            let answer = asker.get(path);
            assert!(is_fresh(id(&answer)), "{answer:?}");
            assert_eq!(answer.text(), id(&answer));
            assert!(seen.insert(id(&answer).to_owned()), "{answer:?} again");
        }
        let longest = "x".repeat(64);
        for given in ["a", "My-Id_1.2", "6f1c1bd4-9d0f-4d6a-8f0a-3d2f5f0f7b11", &longest] {
            for name in ["rp-request-ID", "x-request-ID"] {
                let answer = asker.ask("GET", path, &[(name, given)], b"");
                assert_eq!((answer.text(), id(&answer)), (given, given));
            }
        }
        for given in hostile() {
            let answer = asker.ask("GET", path, &[("X-Request-Id", &given)], b"");
            assert!(is_fresh(id(&answer)), "{given:?}: {answer:?}");
            assert_eq!(answer.text(), id(&answer));
        }
        let answer = asker.ask("GET", path, &[("X-Request-Id", "a"), ("X-Request-Id", "a")], b"");
        assert!(is_fresh(answer.text()), "{answer:?}");
        // The handler cannot change it: the log has what the caller sees.
        assert!(is_fresh(id(&asker.get(&format!("{peer}/other")))));
    }
}

#[test]
fn every_answer_has_one_whoever_gives_it() {
    let identities = Identities::new(&["lonely"]);
    // There is no peer; the local port still answers.
    let node = client(&identities, "lonely", "127.0.0.1:1".parse().unwrap()).start();
    for (headers, path, status) in [
        (&[("X-Request-Id", "my-id"), ("RP-Wait", "0")][..], "/server/time", 503),
        (&[("X-Request-Id", "my-id")], "/nothing", 404),
        (&[("X-Request-Id", "my-id"), ("Origin", "http://evil.example")], "/server/time", 403),
        (&[("X-Request-Id", "my-id")], "/server/%ff", 400),
    ] {
        let answer = node.ask("GET", path, headers, b"");
        assert_eq!((answer.status, id(&answer)), (status, "my-id"), "{answer:?}");
    }
    // If the head is malformed, none of it is used.
    for bad in ["a\u{1b}[2J", "a\0"] {
        let answer = node.ask("GET", "/server/time", &[("X-Request-Id", bad)], b"");
        assert_eq!(answer.status, 400, "{bad:?}");
        assert!(is_fresh(id(&answer)), "{bad:?}: {answer:?}");
    }
    node.wait_log(&["http: refused a request: 404 unknown_path", "(request my-id)"]);
    assert_lines(&node);
}

#[test]
fn both_sides_log_it() {
    let identities = Identities::new(&["web"]);
    let server = server(&identities).set("DEBUG", 1).start();
    let client = client(&identities, "web", server.pipe()).set("DEBUG", 1).start();
    client.get_when_up("/server/time");
    for (number, (asker, handling, path, peer)) in [
        (&client, &server, "/server/cat", "web"),
        (&server, &client, "/client/web/cat", "localhost"),
    ]
    .into_iter()
    .enumerate()
    {
        let given = &format!("my-id-{number}");
        asker.ask("GET", path, &[("X-Request-Id", given)], b"");
        asker.wait_log(&["DEBUG", &format!(": request {given}: get cat answered 200 in ")]);
        let handled = format!("{peer}: request {given}: get cat handled with code 0");
        handling.wait_log(&["DEBUG", &handled]);
        for bad in hostile() {
            asker.ask("GET", path, &[("X-Request-Id", &bad)], b"");
        }
        // A noun that would start a log line of its own, with another id.
        asker.ask("GET", &format!("{path}%0Arequest%20{given}:%20x"), &[], b"");
    }
    for node in [&client, &server] {
        assert_lines(node);
        assert!(node.log().iter().all(|line| line.len() < 8192 / 2));
    }
}

#[test]
fn a_peer_that_knows_no_extension_is_sent_none_and_gets_one_here() {
    let identities = Identities::new(&["old", "new"]);
    let server = server(&identities).set("DEBUG", 1).start();
    let extended = message(HEARTBEAT, 1_000_000_001, &[8, 1, 0x80, 1, 1]);
    for (name, first, knows) in [("old", heartbeat(1_000_000_001), false), ("new", extended, true)]
    {
        let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, name)))).unwrap();
        peer.send(&first).unwrap();
        peer.frame_of(0x80);
        server.wait_log(&[&format!("{name}: connected from")]);
        let answer = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let path = &format!("/client/{name}/work");
                server.ask("POST", path, &[("X-Request-Id", &format!("id-of-{name}"))], b"")
            });
            let asked = peer.frame_of(EVENT);
            let field = format!("\u{a2}\u{1}\u{9}id-of-{name}");
            let field: Vec<u8> = field.chars().map(|c| c as u8).collect();
            assert_eq!(asked.body.ends_with(&field), knows, "{asked:?}");
            peer.hang_up();
            asking.join().unwrap()
        });
        assert_eq!((answer.status, id(&answer)), (502, format!("id-of-{name}").as_str()));
    }
    // Only the other side knows the outcome; the id says what to look for there.
    server.wait_log(&["WARN", "http: request id-of-old: the link to old was lost"]);

    let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, "old")))).unwrap();
    peer.send(&event(1_000_000_002, "get", "time", b"")).unwrap();
    peer.frame_of(0x81);
    let line = server.wait_log(&["old: request ", ": get time handled with code 0"]);
    let (_, given) = line.split_once("old: request ").unwrap();
    assert!(is_fresh(given.split(':').next().unwrap()), "{line}");
}

#[test]
fn what_a_peer_claims_is_checked_again() {
    let identities = Identities::new(&["bad"]);
    let server = server(&identities).set("DEBUG", 1).start();
    let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, "bad")))).unwrap();
    let mut claims = hostile();
    claims.extend(["", "a\nERROR b", "\u{1b}[2J", "größe", "\u{202e}a", "a\0"].map(str::to_owned));
    for (number, claim) in (1_000_000_001..).zip(&claims) {
        let mut bytes = event(number, "get", "time", b"");
        bytes.extend_from_slice(&[0xa2, 0x01]);
        let mut length = claim.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(claim.as_bytes());
        let body = u32::try_from(bytes.len() - 10).unwrap();
        bytes[2..6].copy_from_slice(&body.to_be_bytes());
        peer.send(&bytes).unwrap();
        assert_eq!(peer.frame_of(0x81).id, number, "{claim:?}");
    }
    let handled = |line: &String| line.contains("bad: request ");
    let is_logged = || server.log().iter().filter(|line| handled(line)).count() == claims.len();
    support::scene::wait_until(|| (!is_logged()).then(|| format!("{:#?}", server.log())));
    for line in server.log().iter().filter(|line| handled(line)) {
        let (_, rest) = line.split_once("bad: request ").unwrap();
        assert!(is_fresh(rest.split(':').next().unwrap()), "{line}");
    }
    assert_lines(&server);
}

/// Every line is one event: it has a time and a level, and no control characters.
fn assert_lines(node: &Node) {
    for line in node.log() {
        let mut words = line.split_whitespace();
        assert!(
            words.next().is_some_and(|time| time.ends_with('Z') && time.contains('T')),
            "{line}"
        );
        let level = words.next().unwrap();
        assert!(["DEBUG", "INFO", "WARN"].contains(&level), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
