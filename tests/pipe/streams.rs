//! Bodies of any size between the two programs: whole or an error, in constant memory, each independent
//! of the others.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use restpipe::event::{Body, Reply};
use restpipe::handler::Router;

use crate::support::inside::Pair;
use crate::support::peer::Peer;
use crate::support::tls::dialing;
use crate::support::{self, Identities, Node, PATIENCE, Setup, client, message, server};

/// Both nodes as processes.
struct Programs {
    identities: Identities,
    server: Node,
    client: Node,
}

impl Programs {
    fn start() -> Self {
        let identities = Identities::new(&["client-1", "original"]);
        let server = server(&identities).start();
        let client = client(&identities, "client-1", server.pipe()).start();
        client.get_when_up("/server/time");
        Self { identities, server, client }
    }

    /// Each node's local port, and the path prefix of its peer.
    fn both(&self) -> [(SocketAddr, &str); 2] {
        [(self.client.http(), "/server"), (self.server.http(), "/client/client-1")]
    }
}

fn as_it_is(_: &str, setup: Setup) -> Setup {
    setup
}

/// A request whose body the test writes itself.
fn open(http: SocketAddr, head: &str) -> TcpStream {
    let mut socket = TcpStream::connect(http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Otherwise the bytes after the head would wait for its acknowledgement.
    socket.set_nodelay(true).unwrap();
    socket.write_all(format!("{head}\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    socket
}

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

#[test]
fn bodies_of_every_size_are_the_same_on_both_sides() {
    let programs = Programs::start();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut sizes = vec![0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 262_143, 262_145];
    sizes.extend((0..10).map(|_| rng.usize(..3_000_000)));
    for (http, peer) in programs.both() {
        for size in &sizes {
            let down = support::ask(http, "GET", &format!("{peer}/bytes//{size}"), &[], b"");
            assert_eq!((down.status, down.body.len()), (200, *size), "{peer} {size}");
            let told = support::ask(http, "POST", &format!("{peer}/digest"), &[], &down.body);
            let digest = told.json();
            assert_eq!(digest["bytes"], *size, "{peer}");
            // The generator must return the same bytes again; the digest is the peer's.
            let again = support::ask(http, "GET", &format!("{peer}/bytes//{size}"), &[], b"");
            assert!(again.body == down.body);
            let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &down.body);
            let hex: String = expected.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(digest["sha256"], hex.as_str(), "{peer} {size}");
        }
    }
}

#[test]
fn what_is_sent_comes_back_while_it_is_sent() {
    let programs = Programs::start();
    for (http, peer) in programs.both() {
        let body = random(5_000_000, 1);
        let length = body.len();
        let mut socket = open(
            http,
            &format!("POST {peer}/echo HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}"),
        );
        let mut writing = socket.try_clone().unwrap();
        let back = std::thread::scope(|scope| {
            scope.spawn(|| writing.write_all(&body).unwrap());
            let mut back = Vec::new();
            socket.read_to_end(&mut back).unwrap();
            back
        });
        let answer = support::parse_answer(&back);
        assert_eq!((answer.status, answer.body.len()), (200, length), "{peer}");
        assert!(answer.body == body);
    }
}

#[test]
fn ranges_pass_through() {
    let programs = Programs::start();
    for (http, peer) in programs.both() {
        let get = |range| {
            let headers = [("Range", range)];
            support::ask(http, "GET", &format!("{peer}/bytes//1000000"), &headers, b"")
        };
        let whole = support::ask(http, "GET", &format!("{peer}/bytes//1000000"), &[], b"");
        let part = get("bytes=999-500999");
        assert_eq!(
            (part.status, part.header("Content-Range")),
            (206, Some("bytes 999-500999/1000000"))
        );
        assert!(part.body == whole.body[999..501_000]);
        let none = get("bytes=1000000-");
        assert_eq!((none.status, none.header("Content-Range")), (416, Some("bytes */1000000")));
    }
}

#[test]
fn who_asks_for_the_head_gets_no_body_made() {
    const LENGTH: u64 = 1 << 40;
    let router = || {
        Router::new().on("get_large", |_, event| {
            let body = match event.head_only {
                true => Body::left_out(Some(LENGTH)),
                false => Body::stream(std::io::repeat(7).take(20_000), Some(20_000)),
            };
            Ok(Reply::new("a/b", body))
        })
    };
    let pair = Pair::new(router, as_it_is);
    for (asker, peer) in pair.both() {
        let head = asker.ask("HEAD", &format!("{peer}/large"), &[], b"");
        let length = LENGTH.to_string();
        assert_eq!((head.status, head.header("Content-Length")), (200, Some(length.as_str())));
        assert_eq!(head.header("Content-Type"), Some("a/b"));
        assert_eq!(asker.get(&format!("{peer}/large")).body.len(), 20_000, "{peer}");
    }
}

/// Counts bodies that arrived whole and those that did not.
fn counting() -> (Router, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (whole, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&whole), Arc::clone(&broken));
    let router = Router::new().on("post_count", move |_, event| {
        let read = std::io::copy(&mut event.body, &mut std::io::sink());
        let count = if read.is_ok() { &counts.0 } else { &counts.1 };
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    (router, whole, broken)
}

#[test]
fn an_upload_cut_anywhere_is_never_whole() {
    const LENGTH: usize = 100_000;
    const CUTS: usize = 2000;
    let (router, whole, broken) = counting();
    let router = std::cell::RefCell::new(Some(router));
    let pair = Pair::new(|| router.borrow_mut().take().unwrap_or_default(), as_it_is);
    let body = random(LENGTH, 2);
    for cut in 0..CUTS {
        let chunked = cut % 2 == 1;
        let at = cut * LENGTH / CUTS;
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {LENGTH}")
        };
        let mut socket =
            open(pair.client.http(), &format!("POST /server/count HTTP/1.1\r\n{framing}"));
        let mut sent = Vec::new();
        if chunked {
            write!(sent, "{LENGTH:x}\r\n").unwrap();
        }
        sent.extend_from_slice(&body[..at]);
        socket.write_all(&sent).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        // No 503 either: a truncated body affects neither other requests nor the link. A caller that
        // shut down its side early may be detected as gone, and gets nothing.
        let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 400");
        assert!(refused, "cut at {at}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(pair.client.ask("POST", "/server/count", &[], &body).status, 200);
    assert_eq!(whole.load(Ordering::SeqCst), 1, "the last one, and no other");
    println!("{} cuts reached the handler, none as whole", broken.load(Ordering::SeqCst));
    assert!(broken.load(Ordering::SeqCst) > CUTS / 2);
}

#[test]
fn events_of_a_stream_arrive_one_by_one() {
    struct Ticks(crossbeam_channel::Receiver<&'static [u8]>);
    impl Read for Ticks {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Ok(bytes) = self.0.recv_timeout(PATIENCE) else { return Ok(0) };
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }
    let (tick, ticks) = unbounded();
    let router = move || {
        let ticks = ticks.clone();
        Router::new().on("get_ticks", move |_, _| {
            Ok(Reply::new("text/event-stream", Body::stream(Ticks(ticks.clone()), None)))
        })
    };
    let pair = Pair::new(router, as_it_is);
    let mut socket = open(pair.client.http(), "GET /server/ticks HTTP/1.1\r\nConnection: close");
    let mut seen = String::new();
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        tick.send(event.as_bytes()).unwrap();
        // Each must arrive before the next one is sent.
        while !seen.contains(event) {
            let mut buffer = [0; 1000];
            let count = socket.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "{seen}");
            seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }
    drop(tick);
    drop(pair);
    socket.read_to_string(&mut seen).unwrap();
    assert!(seen.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{seen}");
}

#[test]
fn a_caller_that_goes_away_stops_the_handler() {
    let (began, begun) = unbounded();
    let (stopped, stop) = unbounded();
    let router = move || {
        let (began, stopped) = (began.clone(), stopped.clone());
        Router::new().on("get_long", move |context, _| {
            began.send(()).unwrap();
            let until = Instant::now() + PATIENCE;
            while !context.is_cancelled() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            stopped.send(context.is_cancelled()).unwrap();
            Ok(())
        })
    };
    let pair = Pair::new(router, as_it_is);
    for (asker, peer) in pair.both() {
        let socket = open(asker.http(), &format!("GET {peer}/long HTTP/1.1"));
        begun.recv_timeout(PATIENCE).unwrap();
        let left = Instant::now();
        drop(socket);
        assert!(stop.recv_timeout(PATIENCE).unwrap(), "{peer}: it was not told");
        println!("told after {:?}", left.elapsed());
        assert!(left.elapsed() < Duration::from_secs(5));
    }
}

/// The asker ends the upload that it was told to stop; it still wants the answer.
#[test]
fn a_handler_that_wants_no_more_of_a_body_still_answers() {
    let router = || {
        Router::new().on("post_enough", |context, event| {
            event.body.read_exact(&mut [0; 10])?;
            drop(event.body.take_out());
            // Time for the end of the upload to arrive.
            let until = Instant::now() + Duration::from_millis(500);
            while !context.is_cancelled() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(if context.is_cancelled() { "cancelled" } else { "enough" })
        })
    };
    let pair = Pair::new(router, as_it_is);
    let body = vec![b'x'; 5_000_000];
    for (asker, peer) in pair.both() {
        let answer = asker.ask("POST", &format!("{peer}/enough"), &[], &body);
        assert_eq!((answer.status, answer.text()), (200, "enough"), "{peer}");
    }
}

#[test]
fn a_reply_that_breaks_is_no_short_success() {
    struct Breaking(usize);
    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = buffer.len().min(self.0);
            self.0 -= count;
            if count == 0 { Err(std::io::Error::other("the disk is gone")) } else { Ok(count) }
        }
    }
    let router = || {
        Router::new()
            .on("get_chunked", |_, _| Ok(Reply::new("a/b", Body::stream(Breaking(200_000), None))))
            .on("get_length", |_, _| {
                Ok(Reply::new("a/b", Body::stream(Breaking(200_000), Some(300_000))))
            })
    };
    let pair = Pair::new(router, as_it_is);
    for (asker, peer) in pair.both() {
        for noun in ["chunked", "length"] {
            let mut socket = open(asker.http(), &format!("GET {peer}/{noun} HTTP/1.1"));
            let mut bytes = Vec::new();
            let _ = socket.read_to_end(&mut bytes);
            let answer = support::parse_answer(&bytes);
            assert!(answer.body.len() >= 200_000, "{peer} {noun}: {}", answer.body.len());
            match answer.header("Content-Length") {
                Some(length) => assert!(length.parse::<usize>().unwrap() > answer.body.len()),
                None => assert!(!bytes.ends_with(b"0\r\n\r\n"), "{peer} {noun} looks complete"),
            }
        }
    }
}

#[test]
fn a_quarter_gibibyte_costs_no_memory_and_holds_up_nobody() {
    const LENGTH: u64 = 256 << 20;
    let programs = Programs::start();
    let stalled = open(
        programs.client.http(),
        &format!("GET /server/bytes//{LENGTH} HTTP/1.1\r\nConnection: close"),
    );
    for (http, peer) in programs.both() {
        let head = format!("GET {peer}/bytes//{LENGTH} HTTP/1.1\r\nConnection: close");
        let mut down = open(http, &head);
        let mut up = open(
            http,
            &format!(
                "POST {peer}/digest HTTP/1.1\r\nConnection: close\r\nContent-Length: {LENGTH}"
            ),
        );
        // Uploads what it downloads.
        let mut buffer = vec![0; 64 * 1024];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            down.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut moved = 0;
        let mut slowest = Duration::ZERO;
        while moved < LENGTH {
            let count = down.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "{peer}: it ended after {moved}");
            up.write_all(&buffer[..count]).unwrap();
            let before = moved;
            moved += count as u64;
            if before >> 24 != moved >> 24 {
                let asked = Instant::now();
                assert_eq!(
                    support::ask(http, "GET", &format!("{peer}/time"), &[], b"").status,
                    200
                );
                slowest = slowest.max(asked.elapsed());
            }
        }
        let mut answer = Vec::new();
        up.read_to_end(&mut answer).unwrap();
        let answer = support::parse_answer(&answer);
        assert_eq!((answer.status, &answer.json()["bytes"]), (200, &LENGTH.into()), "{peer}");
        println!("{peer}: the slowest small event took {slowest:?}");
    }
    for node in [&programs.server, &programs.client] {
        let peak = node.status_number("VmHWM");
        println!("peak {peak} kB");
        assert!(peak < 64 * 1024, "{peak} kB");
    }
    drop(stalled);
}

#[test]
fn an_original_peer_gets_a_body_in_one_message_or_not_at_all() {
    let programs = Programs::start();
    let config = dialing(Some((&programs.identities, "original")));
    let mut original = Peer::dial(programs.server.pipe(), config).unwrap();
    let http = programs.server.http();
    programs.server.wait_log(&["original: connected"]);
    let body: Vec<u8> = random(40_000, 3).into_iter().map(|byte| byte & 0x7f).collect();
    let asking = std::thread::spawn({
        let body = body.clone();
        move || {
            let mut socket = open(
                http,
                "POST /client/original/x HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked",
            );
            for part in body.chunks(7000) {
                write!(socket, "{:x}\r\n", part.len()).unwrap();
                socket.write_all(part).unwrap();
                socket.write_all(b"\r\n").unwrap();
            }
            socket.write_all(b"0\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            support::parse_answer(&answer)
        }
    });
    let event = original.frame_of(message::EVENT);
    assert!(event.body.ends_with(&body), "all of it, in one message");
    original.send(&message::reply(event.id, "text/plain", 0, b"thanks")).unwrap();
    assert_eq!(asking.join().unwrap().text(), "thanks");

    let large = vec![b'x'; 16 * 1024 * 1024 + 1];
    let answer = support::ask(http, "POST", "/client/original/x", &[], &large);
    assert_eq!(answer.status, 413);
}
