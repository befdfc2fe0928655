//! Requests that are refused. The server stays up and serves the next caller.

use std::io::Read;
use std::net::Shutdown;
use std::time::Instant;

use restpipe::event::Reply;
use restpipe::event::pipe::RequestError;
use restpipe::handler::Role;

use crate::harness::{Caller, FakePipe, GET, PATIENCE, SOON, settings, start, start_with};
use crate::support::alone::alone;

/// Each of these is refused, closes the connection, and never reaches the pipe.
#[test]
fn broken_requests_are_refused_and_closed() {
    let post = |fields: &str| format!("POST /server/x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let field = |name: &str, value: &str| post(&format!("{name}: {value}\r\n"));
    let mut cases: Vec<(u16, Vec<u8>)> = vec![
        (413, field("Content-Length", "18446744073709551616").into()),
        (413, field("Content-Length", &"9".repeat(99)).into()),
        (400, post("Content-Length: 5\r\nContent-Length: 6\r\n").into()),
        (400, post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n").into()),
        (400, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n").into()),
        (400, b"POST /server/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        (505, b"GET / HTTP/2.0\r\n\r\n".to_vec()),
        (400, b"GET /server/time HTTP/1.1\r\n\r\n".to_vec()),
        (400, b"GET /server/time HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n".to_vec()),
        (400, b"\x16\x03\x01\x00\xf8\x01\x00".to_vec()),
        (400, b"GET /server/time HTTP/1.1\nHost: localhost\n\n".to_vec()),
        (400, GET.replace("time", "a\nb").into()),
        (400, GET.replace("time", "a\0b").into()),
        (400, GET.replace("time", "ä").into()),
        (400, post("X: a\nb\r\n").into()),
        (400, post("X: a\0b\r\n").into()),
        (400, post("X: \u{7f}\r\n").into()),
        (400, post("Ä: x\r\n").into()),
        (431, post(&"X: y\r\n".repeat(128)).into()),
        (431, format!("GET /{}", "a".repeat(20_000)).into()),
        (431, field("X", &"a".repeat(20_000)).into()),
        (400, post("Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeX\r\n").into()),
        (400, post("Transfer-Encoding: chunked\r\n\r\n-5\r\n").into()),
        (
            431,
            post(&format!("Transfer-Encoding: chunked\r\n\r\n5;{}\r\n", "x".repeat(9000))).into(),
        ),
    ];
    for length in ["-1", "+5", "5, 5", "5,6", "0x5", "five", "5 5", "5.0", ""] {
        cases.push((400, field("Content-Length", length).into()));
    }
    for (coding, status) in
        [("gzip", 501), ("identity", 501), ("gzip, chunked", 501), ("chunked, chunked", 400)]
    {
        cases.push((status, field("Transfer-Encoding", coding).into()));
    }
    let running = start();
    for (status, bytes) in cases {
        let shown = bytes[..bytes.len().min(200)].escape_ascii().to_string();
        let mut caller = running.call();
        caller.send_bytes(&bytes);
        let answer = caller.answer();
        assert_eq!(answer.status, status, "{shown}");
        assert_eq!(answer.header("Connection"), Some("close"), "{shown}");
        assert!(!answer.error().is_empty(), "{shown}");
        assert!(caller.is_closed(), "{shown}");
    }
    assert_eq!(running.pipe.seen().len(), 0);
    running.works();
}

/// Each of these is refused and leaves the connection usable.
#[test]
fn requests_that_are_only_not_for_us_leave_the_connection_open() {
    let get = |fields: &str| format!("GET /server/time HTTP/1.1\r\n{fields}\r\n");
    let local = "Host: localhost\r\n";
    let cases = [
        (421, get("Host: evil.example\r\n")),
        (421, get("Host: localhost.evil.example:8081\r\n")),
        (421, get("Host: \r\n")),
        (421, GET.replace("/server", "http://evil.example/server")),
        (403, get(&format!("{local}Origin: http://evil.example\r\n"))),
        (403, get(&format!("{local}Origin: null\r\n"))),
        (403, get(&format!("{local}Sec-Fetch-Site: cross-site\r\n"))),
        (417, get(&format!("{local}Expect: the-worst\r\n"))),
        (400, get(&format!("{local}RP-Wait: soon\r\n"))),
        (404, GET.replace("/server", "/client/web7")),
        (405, GET.replace("GET", "TRACE")),
        (501, GET.replace("GET", "FOO")),
    ];
    let running = start();
    let mut caller = running.call();
    for (status, request) in cases {
        caller.send(&request);
        let answer = caller.answer();
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.header("Allow").is_some(), matches!(status, 405 | 501), "{request}");
        assert!(!answer.error().is_empty(), "{request}");
    }
    assert_eq!(running.pipe.seen().len(), 0);
    caller.send(GET);
    assert_eq!(caller.answer().status, 200);
}

#[test]
fn a_caller_that_is_still_sending_sees_its_refusal() {
    let running = start_with(
        settings(Role::Client),
        FakePipe::streaming(|_, _| Err(RequestError::TooLarge("more than it takes".to_owned()))),
    );
    let mut caller = running.call();
    caller.send("PUT /server/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n");
    caller.send_bytes(&[b'x'; 500_000]);
    let answer = caller.answer();
    assert_eq!((answer.status, answer.error().as_str()), (413, "body_too_large"));
    assert!(caller.is_closed(), "by an end, not by a reset");
}

#[test]
fn a_body_cut_short_is_never_delivered() {
    let cases = [
        "Content-Length: 10\r\n\r\n123456789",
        "Content-Length: 10\r\n\r\n",
        "Content-Length: 100000\r\n\r\n123456789",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\n",
    ];
    let put = "PUT /server/x HTTP/1.1\r\nHost: localhost\r\n";
    let mut settings = settings(Role::Client);
    settings.limits.body_timeout = SOON;
    let running = start_with(settings, FakePipe::default());
    for rest in cases {
        let mut caller = running.call();
        caller.send(&format!("{put}{rest}"));
        caller.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(caller.answer().status, 400, "{rest:?}");
        assert!(caller.is_closed(), "{rest:?}");
    }
    for rest in cases {
        let mut caller = running.call();
        caller.send(&format!("{put}{rest}"));
        let answer = caller.answer();
        assert_eq!((answer.status, answer.error().as_str()), (408, "body_timeout"), "{rest:?}");
    }
    assert_eq!(running.pipe.seen().len(), 0);
    running.works();
}

#[test]
fn a_slow_head_ends_at_its_deadline() {
    let mut settings = settings(Role::Client);
    settings.limits.head_timeout = SOON;
    let running = start_with(settings, FakePipe::default());
    let mut slow = running.call();
    slow.stream.set_read_timeout(Some(SOON / 20)).unwrap();
    slow.send("GET /");
    let started = Instant::now();
    let mut answer = [0; 12];
    while slow.stream.read_exact(&mut answer).is_err() {
        assert!(started.elapsed() < PATIENCE, "bytes that keep coming put the deadline off");
        slow.send("a");
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    running.works();
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let mut settings = settings(Role::Client);
    settings.limits.idle_timeout = SOON;
    let running = start_with(settings, FakePipe::default());
    assert!(running.call().is_closed());
    let mut caller = running.call();
    caller.send(GET);
    assert_eq!(caller.answer().status, 200);
    assert!(caller.is_closed());
}

#[test]
fn a_thousand_idle_connections_leave_room_for_one_more() {
    if !alone("bad_input::a_thousand_idle_connections_leave_room_for_one_more", 4096) {
        return;
    }
    let mut settings = settings(Role::Client);
    settings.limits.max_connections = 1001;
    let running = start_with(settings, FakePipe::default());
    let idle: Vec<Caller> = (0..1000).map(|_| running.call()).collect();
    let mut last = running.call();
    last.send(GET);
    assert_eq!(last.answer().status, 200);
    let mut turned_away = running.call();
    let answer = turned_away.answer();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
    assert!(turned_away.is_closed());
    drop(idle);
    running.until(|running| running.server.connections() == 1);
    running.works();
}

#[test]
fn a_caller_that_never_reads_is_closed() {
    let mut settings = settings(Role::Client);
    settings.limits.write_timeout = SOON;
    let running = start_with(
        settings,
        FakePipe::answering(|event| match event.target.noun() {
            "big" => Ok(Reply::new("a/b", vec![b'x'; 64 * 1024 * 1024])),
            _ => Ok(Reply::new("a/b", "")),
        }),
    );
    let mut caller = running.call();
    caller.send(&GET.replace("time", "big"));
    running.until(|running| running.pipe.seen().len() == 1);
    running.until(|running| running.server.connections() == 0);
    running.works();
}

#[test]
fn held_bodies_of_all_connections_together_are_bounded() {
    let (entered, in_pipe) = crossbeam_channel::bounded(1);
    let (release, released) = crossbeam_channel::bounded::<()>(1);
    let mut settings = settings(Role::Client);
    settings.limits.max_held_bytes = Some(15_000);
    let running = start_with(
        settings,
        FakePipe::answering(move |event| {
            if event.target.noun() == "held" {
                entered.send_timeout((), PATIENCE).unwrap();
                released.recv_timeout(PATIENCE).unwrap();
            }
            Ok(Reply::new("a/b", ""))
        }),
    );
    let put = |caller: &mut Caller, noun: &str| {
        caller.send(&format!("PUT /server/{noun} HTTP/1.1\r\nHost: localhost\r\n"));
        caller.send("Content-Length: 10000\r\n\r\n");
        caller.send_bytes(&[b'x'; 10_000]);
    };
    let other = || {
        let mut other = running.call();
        put(&mut other, "x");
        let answer = other.answer();
        assert_eq!(answer.header("Retry-After").is_some(), answer.status == 503);
        answer.status
    };
    let mut first = running.call();
    put(&mut first, "held");
    in_pipe.recv_timeout(PATIENCE).unwrap();
    assert_eq!(other(), 503);
    release.send_timeout((), PATIENCE).unwrap();
    assert_eq!(first.answer().status, 200);
    // The share is returned after the answer was written, possibly a moment later.
    running.until(|_| other() == 200);
}

#[test]
fn a_panic_costs_one_connection() {
    let running = start_with(
        settings(Role::Client),
        FakePipe::answering(|event| match event.target.noun() {
            "bad" => panic!("as this test wants it"),
            _ => Ok(Reply::new("a/b", "")),
        }),
    );
    let mut other = running.call();
    other.send(GET);
    assert_eq!(other.answer().status, 200);
    let mut caller = running.call();
    caller.send(&GET.replace("time", "bad"));
    assert!(caller.is_closed());
    assert_eq!(running.server.panics(), 1);
    other.send(GET);
    assert_eq!(other.answer().status, 200);
    running.until(|running| running.server.connections() == 1);
}
