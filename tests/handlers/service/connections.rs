//! Connections that are kept, found closed, or missing; and none ever goes to another address.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use crossbeam_channel::unbounded;
use restpipe::config::ServiceAddress;
use restpipe::handler::Service;

use super::harness::{CLIENT, Scene, Scripted, error, read_answer, reply};
use crate::support::port::free_address;
use crate::support::{Identities, PATIENCE, client, server};

#[test]
fn a_connection_is_used_again_whatever_ends_the_body() {
    let service = Scripted::start(|_, visit| {
        while let Some((head, body)) = visit.request() {
            let text = match head.split(' ').nth(1).unwrap() {
                "/length" if head.starts_with("HEAD") => {
                    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".into()
                }
                "/length" => reply("abc"),
                "/chunked" => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                        .into()
                }
                "/none" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
                "/not-modified" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n".into(),
                "/large" => reply(&"x".repeat(100_000)),
                "/echo" => reply(std::str::from_utf8(&body).unwrap()),
                other => panic!("{other}"),
            };
            visit.send(text);
        }
    });
    let scene = Scene::new(service.service(""));
    for _ in 0..3 {
        assert_eq!(scene.get("length").text(), "abc");
        assert!(scene.get("chunked").text().contains("abc"));
        assert_eq!((scene.get("none").status, scene.get("not-modified").status), (204, 304));
        let head = scene.ask("HEAD", "length", &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    assert_eq!(scene.get("large").body.len(), 100_000);
    assert_eq!(service.visits(), 1, "all on the same connection");
    for number in 2..5 {
        assert_eq!(scene.ask("POST", "echo", &[], b"abc").text(), "abc");
        assert_eq!(service.visits(), 2 * number - 2, "what cannot be repeated has a new one");
        let body = vec![b'a'; 200_000];
        assert!(scene.ask("PUT", "echo", &[], &body).body == body);
        assert_eq!(service.visits(), 2 * number - 1);
        // They are kept like all others.
        assert_eq!(scene.get("length").text(), "abc");
        assert_eq!(service.visits(), 2 * number - 1);
    }
}

#[test]
fn a_body_behind_a_reply_without_one_is_not_the_next_reply() {
    for fields in ["Transfer-Encoding: chunked", "Content-Length: 5"] {
        let service = Scripted::start(move |number, visit| {
            while visit.request().is_some() {
                let text = match number {
                    0 => format!("HTTP/1.1 204 No Content\r\n{fields}\r\n\r\n"),
                    _ => reply("fine"),
                };
                visit.send(text);
            }
        });
        let scene = Scene::new(service.service(""));
        assert_eq!(scene.get("x").status, 204);
        assert_eq!(scene.get("x").text(), "fine", "on a new connection: {fields}");
        assert_eq!(service.visits(), 2);
    }
}

#[test]
fn a_post_to_a_service_that_closes_after_each_reply_is_answered() {
    let service = Scripted::start(|_, visit| {
        if visit.request().is_some() {
            visit.send(reply("done"));
        }
        // Late enough for the next request to be on its way.
        std::thread::sleep(Duration::from_millis(2));
    });
    let scene = Scene::new(service.service(""));
    for number in 1..=100 {
        let answer = scene.ask("POST", "x", &[], b"body");
        assert_eq!((answer.status, answer.text()), (200, "done"), "{number}: {answer:?}");
    }
    assert_eq!(service.visits(), 100);
}

#[test]
fn idle_connections_are_closed_without_another_request() {
    let (close, closed) = unbounded();
    let service = Scripted::start(move |_, visit| {
        visit.request();
        visit.send(reply("done"));
        let _ = close.send(visit.wait_closed().0);
    });
    let scene = Scene::new(service.service(""));
    for _ in 0..2 {
        // Both at once, so that there are two connections.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(scene.ask("POST", "x", &[], b"body").text(), "done"));
            }
        });
        for _ in 0..2 {
            let idle = closed.recv_timeout(PATIENCE).unwrap();
            assert!(idle >= Duration::from_millis(3900), "{idle:?}");
            assert!(idle < Duration::from_secs(10), "{idle:?}");
        }
    }
}

#[test]
fn what_says_that_it_closes_is_not_used_again() {
    for text in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    ] {
        // They stay open on this side.
        let service = Scripted::start(move |_, visit| {
            while visit.request().is_some() {
                visit.send(text);
            }
        });
        let scene = Scene::new(service.service(""));
        for number in 1..=3 {
            let answer = scene.get("x");
            assert_eq!((answer.status, answer.text()), (200, "abc"), "{text:?}");
            assert_eq!(service.visits(), number, "{text:?}");
        }
    }
}

/// Each of many concurrent callers has its own connection, and no answers are mixed up.
#[test]
fn each_caller_gets_its_own_reply() {
    let service = Scripted::start(|_, visit| {
        while let Some((head, _)) = visit.request() {
            visit.send(reply(head.split(' ').nth(1).unwrap()));
        }
    });
    let scene = Scene::new(service.service(""));
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let scene = &scene;
            scope.spawn(move || {
                for number in 0..20 {
                    let path = format!("{caller}/{number}");
                    assert_eq!(scene.get(&path).text(), format!("/{path}"));
                }
            });
        }
    });
    assert!(service.visits() <= 100, "{} connections for 320 requests", service.visits());
}

#[test]
fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let (close, closed) = unbounded();
    let service = Scripted::start(move |_, visit| {
        if visit.request().is_some() {
            visit.send(reply("first"));
        }
        let _ = close.send(());
    });
    let scene = Scene::new(service.service(""));
    for number in 1..=10 {
        // POST, too: a closed connection is detected before it is used.
        let method = if number % 2 == 0 { "POST" } else { "GET" };
        assert_eq!(scene.ask(method, "x", &[], b"").text(), "first");
        closed.recv_timeout(PATIENCE).unwrap();
        assert_eq!(service.visits(), number);
    }
}

/// The service closes at the very moment the next request arrives.
#[test]
fn only_what_can_be_repeated_is_repeated_and_once() {
    let service = Scripted::start(|number, visit| {
        visit.request();
        visit.send(reply("first"));
        // It reads the second one and does not answer; the next connection has no first.
        visit.request();
        let _ = number;
    });
    let scene = Scene::new(service.service(""));
    assert_eq!(scene.get("x").text(), "first");
    // Repeated on a new connection, where it is the first again.
    assert_eq!(scene.get("x").text(), "first");
    assert_eq!(service.visits(), 2);
    assert_eq!(scene.ask("POST", "x", &[], b"once").text(), "first");
    assert_eq!(service.visits(), 3, "on a new connection at once");

    let silent = Scripted::start(|_, visit| drop(visit.request()));
    let scene = Scene::new(silent.service(""));
    for (number, method) in [(1, "GET"), (2, "POST")] {
        let answer = scene.ask(method, "x", &[], b"");
        assert_eq!(error(&answer), (502, "bad_answer".into()));
        assert!(answer.text().contains("whether it handled the request is unknown"), "{answer:?}");
        assert_eq!(silent.visits(), number, "a new connection is no stale one");
    }
}

#[test]
fn a_service_that_is_not_there_is_502_with_the_reason() {
    let address = free_address();
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe())
        .set("RP_EVENT_HANDLER", format!("http://{address}/api"))
        .start();
    client.get_when_up("/server/time");
    for _ in 0..3 {
        let answer = server.get(&format!("{CLIENT}x//y?secret"));
        assert_eq!(error(&answer), (502, "unreachable".into()));
        assert_eq!(answer.header("X-Event-Return-Code"), Some("251"));
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let expected = format!("the service at http://{address}/api cannot be reached: ");
        assert!(message.starts_with(&expected) && message.contains("refused"), "{message}");
        assert_eq!(answer.json()["exception"]["message"], message.as_str());
    }
    let line = client.wait_log(&["WARN", "get x: the service at", "cannot be reached"]);
    assert!(line.contains("localhost: request ") && !line.contains("secret"), "{line}");
    let lines = client.log().into_iter().filter(|line| line.contains("cannot be reached"));
    assert_eq!(lines.count(), 1, "the others are left out");
}

#[test]
fn a_unix_socket_is_a_service_too() {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (told, heads) = unbounded();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    return;
                }
                head.push(byte[0]);
            }
            told.send(String::from_utf8(head).unwrap()).unwrap();
            stream.write_all(reply("unix").as_bytes()).unwrap();
        }
    });
    let scene = Scene::new(Service::new(&ServiceAddress::Unix(path.clone())).unwrap());
    assert_eq!(scene.get("v1//x?y").text(), "unix");
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("GET /v1//x?y HTTP/1.1\r\nHost: localhost\r\n"), "{head}");

    let gone = Scene::new(Service::new(&ServiceAddress::Unix(dir.path().join("none"))).unwrap());
    assert_eq!(error(&gone.get("x")), (502, "unreachable".into()));
    let long = dir.path().join("x".repeat(200));
    assert!(Service::new(&ServiceAddress::Unix(long)).is_err());
}

/// Whatever a request contains, it goes to the one configured address.
#[test]
fn no_request_goes_to_another_address() {
    let canary = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    canary.set_nonblocking(true).unwrap();
    let evil = canary.local_addr().unwrap();
    let service = Scripted::start(move |_, visit| {
        while let Some((head, _)) = visit.request() {
            let location = format!("http://{evil}/elsewhere");
            let path = head.split(' ').nth(1).unwrap();
            visit.send(format!(
                "HTTP/1.1 307 Elsewhere\r\nLocation: {location}\r\nContent-Location: {location}\r\n\
                 Refresh: 0; url={location}\r\nAlt-Svc: h2=\"{evil}\"\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            ));
        }
    });
    let scene = Scene::new(service.service("/api"));
    let evils = [
        format!("http://{evil}/x"),
        format!("/{evil}/x"),
        format!("//{evil}/x"),
        format!("@{evil}/x"),
        format!(":{}/x", evil.port()),
        format!("x?url=http://{evil}/"),
        format!("\\\\{evil}\\x"),
    ];
    for path in &evils {
        for method in ["GET", "POST", "PUT", "OPTIONS"] {
            let answer = scene.ask(
                method,
                path,
                &[
                    ("X-Forwarded-Host", &evil.to_string()),
                    ("Forwarded", &format!("host={evil}")),
                    ("Proxy", &format!("http://{evil}")),
                    ("X-Original-URL", &format!("http://{evil}/")),
                    ("Referer", &format!("http://{evil}/")),
                ],
                b"body",
            );
            assert_eq!((answer.status, answer.text()), (307, format!("/api/{path}").as_str()));
            let location = format!("http://{evil}/elsewhere");
            assert_eq!(answer.header("Location"), Some(location.as_str()), "it is passed back");
        }
    }
    // The caller's node checks this, too.
    for (authority, status) in [(evil.to_string(), 307), ("evil.example".to_owned(), 421)] {
        let line = format!("GET http://{authority}{CLIENT}x");
        let answer = read_answer(scene.open(&line, "Connection: close\r\n"));
        assert_eq!(answer.status, status, "{authority}");
    }
    let asked = canary.accept().map(|(_, from)| from);
    assert_eq!(asked.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody came");
}

#[test]
fn a_service_that_takes_no_connection_is_given_up() {
    // One that listens but never accepts, with a full queue.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        held.push(socket);
    }
    let at =
        ServiceAddress::Tcp { host: "127.0.0.1".into(), port: address.port(), prefix: "".into() };
    let service = Service::new(&at).unwrap().with_reply_timeout(Duration::from_millis(700));
    let scene = Scene::new(service);
    let answer = scene.get("x");
    assert_eq!(error(&answer), (504, "service_timeout".into()), "{answer:?}");
    assert!(answer.text().contains("did not take a connection within 0.7 s"), "{answer:?}");
}
