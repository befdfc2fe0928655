//! Streamed bodies: up, down, both at once, and a reply before the end of the request.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;

use super::harness::{CLIENT, Scene, Scripted, field, reply};
use crate::support::PATIENCE;
use crate::support::alone::{USUAL_FILES, alone};

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// Reads the next chunk with its framing; empty at the end.
fn chunk(stream: &mut impl Read) -> Vec<u8> {
    let mut size = Vec::new();
    while !size.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        size.push(byte[0]);
    }
    let size = std::str::from_utf8(&size).unwrap().trim();
    let mut data = vec![0; usize::from_str_radix(size, 16).unwrap() + 2];
    stream.read_exact(&mut data).unwrap();
    data.truncate(data.len() - 2);
    data
}

fn as_chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

#[test]
fn bodies_of_every_size_and_framing_pass_both_ways() {
    let service = Scripted::start(|_, visit| {
        while let Some(head) = visit.head() {
            let body = if field(&head, "transfer-encoding").is_some() {
                let mut body = Vec::new();
                loop {
                    let piece = chunk(&mut visit.stream);
                    if piece.is_empty() {
                        break body;
                    }
                    body.extend(piece);
                }
            } else {
                let length = field(&head, "content-length").unwrap().parse().unwrap();
                let mut body = vec![0; length];
                visit.stream.read_exact(&mut body).unwrap();
                body
            };
            if head.contains("/chunked") {
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in body.chunks(10_000) {
                    visit.send(as_chunk(piece));
                }
                visit.send("0\r\nX-Trailer: 1\r\n\r\n");
            } else {
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
                visit.send(body);
            }
        }
    });
    let scene = Scene::new(service.service(""));
    for size in [0, 1, 16_383, 16_384, 16_385, 65_537, 1_000_000] {
        let body = random(size, size as u64);
        let answer = scene.ask("POST", "length", &[("Content-Type", "a/b")], &body);
        assert!(answer.status != 200 || answer.body == body, "{size}");
        assert_eq!(answer.status, 200, "{size}");

        // Chunked up and down.
        let mut socket = scene.open(
            &format!("POST {CLIENT}chunked"),
            "Connection: close\r\nTransfer-Encoding: chunked\r\n",
        );
        let mut writing = socket.try_clone().unwrap();
        let mut back = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for piece in body.chunks(7_777) {
                    writing.write_all(&as_chunk(piece)).unwrap();
                }
                writing.write_all(b"0\r\n\r\n").unwrap();
            });
            socket.read_to_end(&mut back).unwrap();
        });
        let answer = crate::support::parse_answer(&back);
        assert_eq!(answer.status, 200);
        let decoded = match answer.header("Content-Length") {
            Some(_) => answer.body,
            None => {
                let mut rest = answer.body.as_slice();
                let mut whole = Vec::new();
                loop {
                    let piece = chunk(&mut rest);
                    if piece.is_empty() {
                        break whole;
                    }
                    whole.extend(piece);
                }
            }
        };
        assert!(decoded == body, "{size} chunked");
    }
    assert_eq!(service.visits(), 14, "what cannot be repeated has a connection of its own");
}

/// Each piece comes back before the next one is sent.
#[test]
fn both_directions_move_at_once() {
    let service = Scripted::start(|_, visit| {
        visit.head();
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        loop {
            let piece = chunk(&mut visit.stream);
            visit.send(as_chunk(&piece));
            if piece.is_empty() {
                return;
            }
        }
    });
    let scene = Scene::new(service.service(""));
    let mut socket = scene.open(&format!("POST {CLIENT}echo"), "Transfer-Encoding: chunked\r\n");
    let mut head = Vec::new();
    for number in 0..20 {
        let piece = random(1 + number * 1000, number as u64);
        socket.write_all(&as_chunk(&piece)).unwrap();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut back = Vec::new();
        while back.len() < piece.len() {
            back.extend(chunk(&mut socket));
        }
        assert!(back == piece, "{number}");
    }
    socket.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(chunk(&mut socket), b"");
}

/// A service that refuses before it has read the body.
#[test]
fn an_early_reply_is_passed_on_and_the_upload_ends() {
    for closes in [false, true] {
        let (ended, ends) = unbounded();
        let service = Scripted::start(move |_, visit| {
            visit.head();
            visit.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
            if !closes {
                ended.send(visit.wait_closed()).unwrap();
            }
        });
        let scene = Scene::new(service.service(""));
        let fields = "Content-Length: 1000000000\r\n";
        let mut socket = scene.open(&format!("PUT {CLIENT}large"), fields);
        let mut writing = socket.try_clone().unwrap();
        let start = Instant::now();
        let mut answer = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let piece = vec![0; 1 << 20];
                while writing.write_all(&piece).is_ok() {
                    assert!(start.elapsed() < PATIENCE, "the upload does not end");
                }
            });
            let _ = socket.read_to_end(&mut answer);
            drop(socket);
        });
        let answer = crate::support::parse_answer(&answer);
        assert_eq!((answer.status, answer.text()), (413, "no"));
        if !closes {
            let (_, bytes) = ends.recv_timeout(PATIENCE).unwrap();
            assert!(bytes < 100_000_000, "{bytes} bytes were still sent");
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

/// A caller that disconnects must not look like one that has sent everything.
#[test]
fn a_request_that_is_cut_is_never_whole() {
    let (ended, ends) = unbounded();
    let service = Scripted::start(move |_, visit| {
        let head = visit.head().unwrap();
        let chunked = field(&head, "transfer-encoding").is_some();
        let mut rest = Vec::new();
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = visit.stream.read(&mut buffer) {
            rest.extend_from_slice(&buffer[..count]);
        }
        let whole = if chunked { rest.ends_with(b"0\r\n\r\n") } else { rest.len() >= 100_000 };
        ended.send((whole, rest.len())).unwrap();
    });
    let scene = Scene::new(service.service(""));
    for cut in [0, 1, 16_384, 50_000, 99_999] {
        for fields in ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"] {
            let mut socket = scene.open(&format!("POST {CLIENT}x"), fields);
            let body = vec![b'a'; cut];
            if fields.starts_with("C") {
                socket.write_all(&body).unwrap();
            } else if cut > 0 {
                socket.write_all(&as_chunk(&body)).unwrap();
            }
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            assert_eq!(crate::support::parse_answer(&answer).status, 400, "{cut} {fields}");
            let (whole, bytes) = ends.recv_timeout(PATIENCE).unwrap();
            assert!(!whole, "{bytes} bytes look like all, cut at {cut}, {fields}");
        }
    }
}

#[test]
fn events_arrive_one_by_one() {
    let (next, nexts) = unbounded();
    let service = Scripted::start(move |_, visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        while let Ok(number) = nexts.recv() {
            let number: usize = number;
            visit.send(format!("data: {number}\n\n"));
        }
    });
    // Even if the service is silent between them.
    let service = service.service("").with_reply_timeout(Duration::from_millis(300));
    let scene = Scene::with(service, |setup| setup.set("RP_REPLY_TIMEOUT_S", "0.5"));
    next.send(0).unwrap();
    let mut socket = scene.open(&format!("GET {CLIENT}events"), "Connection: close\r\n");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(String::from_utf8(head).unwrap().contains("text/event-stream"));
    for number in 0..4 {
        assert_eq!(chunk(&mut socket), format!("data: {number}\n\n").as_bytes());
        // Longer than any of the limits.
        std::thread::sleep(Duration::from_millis(700));
        next.send(number + 1).unwrap();
    }
    drop(next);
    chunk(&mut socket);
    assert_eq!(chunk(&mut socket), b"");
}

#[test]
fn a_head_asked_alone_is_a_head() {
    let (told, methods) = unbounded();
    let service = Scripted::start(move |_, visit| {
        while let Some((head, _)) = visit.request() {
            let method = head.split(' ').next().unwrap().to_owned();
            let body = if method == "HEAD" { "" } else { "GET" };
            let text = match head.split(' ').nth(1).unwrap() {
                "/length" => "Content-Length: 1099511627776\r\n".to_owned(),
                "/chunked" => "Transfer-Encoding: chunked\r\n".to_owned(),
                "/small" => "Content-Length: 3\r\n".to_owned(),
                _ => String::new(),
            };
            told.send(method).unwrap();
            visit.send(format!("HTTP/1.1 200 OK\r\nX-A: b\r\n{text}\r\n{body}"));
        }
    });
    let scene = Scene::new(service.service(""));
    for (path, length) in
        [("length", Some("1099511627776")), ("chunked", None), ("small", Some("3")), ("none", None)]
    {
        let answer = scene.ask("HEAD", path, &[], b"");
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert_eq!(answer.header("X-A"), Some("b"));
        assert_eq!(answer.header("Content-Length"), length, "{path}");
        assert_eq!(methods.recv_timeout(PATIENCE).unwrap(), "HEAD");
    }
    assert_eq!(service.visits(), 1, "the connection is kept");
    assert_eq!(scene.get("small").text(), "GET");
}

#[test]
fn many_streams_leave_no_threads_behind() {
    if !alone("service::streams::many_streams_leave_no_threads_behind", USUAL_FILES) {
        return;
    }
    let service = Scripted::start(|_, visit| {
        while visit.request().is_some() {
            visit.send(reply("ok"));
        }
    });
    let scene = Scene::new(service.service(""));
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter(|task| {
                let path = task.as_ref().unwrap().path().join("comm");
                std::fs::read_to_string(path).is_ok_and(|name| name.trim() == "service-upload")
            })
            .count()
    };
    for _ in 0..20 {
        assert_eq!(scene.ask("POST", "x", &[], &vec![0; 100_000]).text(), "ok");
    }
    let until = Instant::now() + PATIENCE;
    while threads() > 0 {
        assert!(Instant::now() < until, "{} threads", threads());
        std::thread::sleep(Duration::from_millis(10));
    }
}
