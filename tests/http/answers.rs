//! Requests that are answered.

use std::io::Write;
use std::time::Duration;

use restpipe::event::pipe::RequestError;
use restpipe::event::{Reply, Verb};
use restpipe::handler::Role;

use crate::harness::{FakePipe, GET, settings, start, start_with};

#[test]
fn a_request_crosses_to_the_pipe_and_back() {
    let running = start();
    let mut caller = running.call();
    caller.send(
        "POST /server/cat//a%2Fb/c?d=e HTTP/1.1\r\nHost: localhost:1\r\nContent-Type: text/x\r\n\
         Content-Length: 4\r\nRP-Wait: 3\r\n\r\n\0\r\n\u{7f}",
    );
    let answer = caller.answer();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Server"), Some("restpipe"));
    assert_eq!(answer.header("X-Event-Return-Code"), Some("0"));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Connection"), None);
    assert!(answer.header("Date").is_some());
    assert_eq!(answer.text(), r#"{"said": "post cat//a/b/c"}"#);
    let asked = running.pipe.only();
    assert_eq!(asked.peer, "server");
    assert_eq!(asked.event.verb, Verb::Post);
    assert_eq!(asked.event.target.parameters(), ["a/b", "c"]);
    assert_eq!(asked.event.target.query_value("d"), Some("e"));
    assert_eq!(asked.event.media_type, "text/x");
    assert_eq!(asked.event.body, b"\0\r\n\x7f");
    assert_eq!(asked.wait, Duration::from_secs(3));
}

#[test]
fn a_server_asks_the_client_that_the_path_names() {
    let running = start_with(settings(Role::Server), FakePipe::default());
    let mut caller = running.call();
    caller.send("DELETE /client/2001:db8::1/a HTTP/1.1\r\nHost: [::1]\r\n\r\n");
    assert_eq!(caller.answer().status, 200);
    assert_eq!(running.pipe.only().peer, "2001:db8::1");
    caller.send(GET);
    let answer = caller.answer();
    assert_eq!((answer.status, answer.error().as_str()), (404, "unknown_path"));
    assert!(answer.text().contains("/client/HOST/NOUN"), "{}", answer.text());
}

#[test]
fn every_method_is_asked_and_head_leaves_the_body_out() {
    let running = start();
    let mut caller = running.call();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        caller.send(&GET.replace("GET", method));
        let expected = format!(r#"{{"said": "{} time"}}"#, method.to_lowercase());
        assert_eq!(caller.answer().text(), expected);
    }
    caller.send(&GET.replace("GET", "HEAD"));
    let head = caller.answer_to_head();
    assert_eq!(head.header("Content-Length"), Some("20"));
    caller.send(GET);
    assert_eq!(caller.answer().text().len(), 20, "the next answer starts where it should");
    let verbs: Vec<Verb> = running.pipe.seen().iter().map(|asked| asked.event.verb).collect();
    assert_eq!(verbs[..6], Verb::ALL[..6]);
    assert_eq!(verbs[6], Verb::Get);
}

#[test]
fn replies_and_failures_become_statuses() {
    let running = start_with(
        settings(Role::Client),
        FakePipe::answering(|event| match event.target.noun() {
            "unhandled" => Ok(Reply::unhandled()),
            "wrong_verb" => Ok(Reply::wrong_verb(&[Verb::Put])),
            "exception" => Ok(Reply::exception("E", "m", "")),
            "busy" => Ok(Reply::busy("later")),
            "stopping" => Err(RequestError::Stopping),
            "empty" => Ok(Reply { status: Some(204), ..Reply::new("a/b", "dropped") }),
            _ => Ok(Reply { status: Some(304), ..Reply::new("", "dropped") }),
        }),
    );
    let mut caller = running.call();
    for noun in ["empty", "unchanged"] {
        caller.send(&GET.replace("time", noun));
        let answer = caller.answer();
        assert_eq!((answer.header("Content-Length"), answer.body.len()), (None, 0), "{noun}");
    }
    let cases = [
        ("unhandled", 404, "unhandled"),
        ("wrong_verb", 405, "wrong_verb"),
        ("exception", 500, "exception"),
        ("busy", 503, "exception"),
        ("stopping", 503, "stopping"),
    ];
    for (noun, status, error) in cases {
        caller.send(&GET.replace("time", noun));
        let answer = caller.answer();
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{noun}");
        assert_eq!(answer.header("Allow").is_some(), status == 405, "{noun}");
        assert_eq!(answer.header("Retry-After").is_some(), status == 503, "{noun}");
    }
    assert!(caller.is_closed(), "a stopping node closes");
}

#[test]
fn http_1_0_closes_unless_asked_not_to() {
    let running = start();
    let mut caller = running.call();
    caller.send("GET /server/time HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!(caller.answer().header("Connection"), Some("keep-alive"));
    caller.send("GET /server/time HTTP/1.0\r\n\r\n");
    assert_eq!(caller.answer().header("Connection"), Some("close"));
    assert!(caller.is_closed());
    let mut caller = running.call();
    caller.send("GET /server/time HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(caller.answer().header("Connection"), Some("close"));
    assert!(caller.is_closed());
}

#[test]
fn bodies_arrive_whole_in_either_coding() {
    let running = start_with(
        settings(Role::Client),
        FakePipe::answering(|event| Ok(Reply::new("a/b", event.body.whole().unwrap()))),
    );
    let mut caller = running.call();
    let put = "PUT /server/x HTTP/1.1\r\nHost: localhost\r\n";
    for size in [1, 4095, 20_000, 70_000, 1_000_000] {
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        caller.send(&format!("{put}Content-Length: {size}\r\n\r\n"));
        caller.send_bytes(&body);
        assert!(caller.answer().body == body, "{size} by length");
        let mut chunked = format!("{put}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for chunk in body.chunks(9_999) {
            write!(chunked, "{:x};x=y\r\n", chunk.len()).unwrap();
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\nX-Trailer: dropped\r\n\r\n");
        chunked.extend_from_slice(GET.as_bytes());
        caller.send_bytes(&chunked);
        assert!(caller.answer().body == body, "{size} in chunks");
        assert_eq!(caller.answer().body, b"", "the request behind the body");
    }
}

#[test]
fn an_expected_continue_comes_after_the_cheap_refusals() {
    let running = start();
    let mut caller = running.call();
    let ask = |path: &str, length: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    caller.send(&ask("/server/x", "3"));
    assert_eq!(caller.line(), "HTTP/1.1 100 Continue\r\n");
    assert_eq!(caller.line(), "\r\n");
    caller.send("abc");
    assert_eq!(caller.answer().status, 200);
    assert_eq!(running.pipe.only().event.body, b"abc");
    for length in ["3", "99999999"] {
        let mut caller = running.call();
        caller.send(&ask("/nowhere", length));
        assert_eq!(caller.answer().status, 404);
        assert!(caller.is_closed());
    }
}

#[test]
fn configured_hosts_are_let_in() {
    let mut settings = settings(Role::Client);
    settings.allowed_hosts = vec!["rpclient.local".into()];
    let running = start_with(settings, FakePipe::default());
    let mut caller = running.call();
    caller.send(&GET.replace("localhost", "RPclient.local:80"));
    assert_eq!(caller.answer().status, 200);
}

#[test]
fn a_hundred_thousand_pipelined_requests_are_answered_in_order() {
    const COUNT: usize = 100_000;
    let running = start_with(
        settings(Role::Client),
        FakePipe::answering(|event| Ok(Reply::new("a/b", event.target.noun()))),
    );
    let mut caller = running.call();
    let mut writer = caller.stream.try_clone().unwrap();
    let sending = std::thread::Builder::new().name("sender".into()).spawn(move || {
        for thousand in 0..COUNT / 1000 {
            let requests = (0..1000).map(|i| GET.replace("time", &format!("n{thousand}/{i}")));
            writer.write_all(requests.collect::<String>().as_bytes()).unwrap();
        }
    });
    for i in 0..COUNT {
        assert_eq!(caller.answer().text(), format!("n{}/{}", i / 1000, i % 1000));
    }
    sending.unwrap().join().unwrap();
}
