//! Replies that are written as they arrive.

use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use restpipe::event::{Body, Reply, Source};
use restpipe::handler::Role;

use crate::harness::{FakePipe, GET, PATIENCE, Running, SOON, settings, start_with};
use crate::support::alone::{USUAL_FILES, alone};

/// A reply body fed by the test; dropping the sender ends it.
struct Fed {
    pieces: Receiver<io::Result<Vec<u8>>>,
    dropped: Arc<AtomicBool>,
}

impl Source for Fed {
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        match self.pieces.recv_timeout(timeout) {
            Ok(piece) => {
                let piece = piece?;
                buffer[..piece.len()].copy_from_slice(&piece);
                Ok(Some(piece.len()))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(0)),
        }
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

/// A server whose replies are fed one by one.
struct Feeding {
    running: Running,
    bodies: Sender<Reply>,
}

impl Feeding {
    fn start() -> Self {
        let (bodies, replies) = bounded::<Reply>(10);
        let replies = std::sync::Mutex::new(replies);
        let pipe = FakePipe::streaming(move |_, _| {
            Ok(replies.lock().unwrap().recv_timeout(PATIENCE).unwrap())
        });
        Self { running: start_with(settings(Role::Client), pipe), bodies }
    }

    fn next(
        &self,
        status: u16,
        length: Option<u64>,
    ) -> (Sender<io::Result<Vec<u8>>>, Arc<AtomicBool>) {
        let (feed, pieces) = bounded(10);
        let dropped = Arc::new(AtomicBool::new(false));
        let source = Fed { pieces, dropped: Arc::clone(&dropped) };
        let body = Body::from_source(source, length);
        self.bodies.send(Reply::new("a/b", body).with_status(status)).unwrap();
        (feed, dropped)
    }
}

fn piece(text: &str) -> io::Result<Vec<u8>> {
    Ok(text.as_bytes().to_vec())
}

#[test]
fn pieces_arrive_one_by_one_before_the_end() {
    let feeding = Feeding::start();
    let mut caller = feeding.running.call();
    for _ in 0..2 {
        let (feed, _) = feeding.next(200, None);
        caller.send(GET);
        let head = caller.answer_to_head();
        assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
        assert_eq!((head.header("Content-Length"), head.header("Connection")), (None, None));
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            feed.send(piece(event)).unwrap();
            assert_eq!(caller.chunk(), event.as_bytes());
        }
        drop(feed);
        assert_eq!(caller.chunk(), b"");
    }
    let (feed, _) = feeding.next(206, Some(5));
    caller.send(GET);
    let head = caller.answer_to_head();
    assert_eq!((head.status, head.header("Content-Length")), (206, Some("5")));
    feed.send(piece("abc")).unwrap();
    let mut three = [0; 3];
    caller.read_exact(&mut three).unwrap();
    feed.send(piece("de")).unwrap();
    drop(feed);
    let mut two = [0; 2];
    caller.read_exact(&mut two).unwrap();
    assert_eq!((&three, &two), (b"abc", b"de"));
    let (feed, _) = feeding.next(200, Some(0));
    drop(feed);
    caller.send(GET);
    assert_eq!(caller.answer().body, b"", "the connection goes on");
}

#[test]
fn http_1_0_gets_a_stream_that_ends_with_the_connection() {
    let feeding = Feeding::start();
    let get = GET.replace("1.1", "1.0").replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
    for fails in [false, true] {
        let (feed, _) = feeding.next(200, None);
        let mut caller = feeding.running.call();
        caller.send(&get);
        let head = caller.answer_to_head();
        assert_eq!((head.header("Transfer-Encoding"), head.header("Content-Length")), (None, None));
        assert_eq!(head.header("Connection"), Some("close"));
        feed.send(piece("abc")).unwrap();
        let mut three = [0; 3];
        caller.read_exact(&mut three).unwrap();
        if fails {
            feed.send(Err(io::Error::other("lost"))).unwrap();
        }
        drop(feed);
        let end = caller.read(&mut [0]);
        if fails {
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        } else {
            assert_eq!(end.unwrap(), 0);
        }
    }
    let (feed, _) = feeding.next(200, Some(1));
    let mut caller = feeding.running.call();
    caller.send(&get);
    feed.send(piece("x")).unwrap();
    drop(feed);
    assert_eq!(caller.answer().header("Connection"), Some("keep-alive"), "its length is known");
}

#[test]
fn what_has_no_body_drops_the_stream() {
    let feeding = Feeding::start();
    let mut caller = feeding.running.call();
    for (method, status, length, shown) in [
        ("HEAD", 200, None, None),
        ("HEAD", 200, Some(7), Some("7")),
        ("HEAD", 404, Some(7), Some("7")),
        ("GET", 204, Some(7), None),
        ("GET", 304, None, None),
        ("HEAD", 304, Some(7), None),
        ("GET", 205, Some(7), Some("0")),
    ] {
        let (feed, dropped) = feeding.next(status, length);
        caller.send(&GET.replace("GET", method));
        let head = caller.answer_to_head();
        assert_eq!((head.status, head.header("Content-Length")), (status, shown), "{method}");
        assert_eq!(head.header("Transfer-Encoding"), None);
        assert!(dropped.load(Ordering::SeqCst), "before the answer");
        assert!(feed.send(piece("x")).is_err());
    }
    let (feed, _) = feeding.next(200, None);
    drop(feed);
    caller.send(GET);
    caller.answer_to_head();
    assert_eq!(caller.chunk(), b"", "the connection goes on");
}

#[test]
fn a_body_that_is_not_as_announced_is_seen_as_broken() {
    let feeding = Feeding::start();
    let lost = || Err(io::Error::other("lost"));
    let cases = [
        (None::<u64>, vec![piece("abc"), lost()]),
        (None, vec![lost()]),
        (Some(5), vec![piece("abc"), lost()]),
        (Some(5), vec![piece("abc")]),
        (Some(5), vec![piece("abc"), piece("def")]),
        // Whole after two pieces, until the third one shows that it is not.
        (Some(5), vec![piece("abc"), piece("de"), piece("f")]),
    ];
    for (length, pieces) in cases {
        let shown = format!("{length:?} {pieces:?}");
        let (feed, _) = feeding.next(200, length);
        let mut caller = feeding.running.call();
        caller.send(GET);
        pieces.into_iter().for_each(|piece| feed.send(piece).unwrap());
        drop(feed);
        caller.answer_to_head();
        let mut rest = Vec::new();
        caller.read_to_end(&mut rest).unwrap();
        match length {
            Some(length) => assert!((rest.len() as u64) < length, "{shown}: {rest:?}"),
            None => assert!(!rest.ends_with(b"0\r\n\r\n"), "{shown}: {rest:?}"),
        }
    }
    feeding.running.until(|running| running.server.connections() == 0);
}

#[test]
fn a_caller_that_goes_away_ends_the_stream() {
    let feeding = Feeding::start();
    for half in [false, true] {
        let (feed, dropped) = feeding.next(200, None);
        let mut caller = feeding.running.call();
        caller.send(GET);
        caller.answer_to_head();
        feed.send(piece("x")).unwrap();
        assert_eq!(caller.chunk(), b"x");
        caller.stream.shutdown(if half { Shutdown::Write } else { Shutdown::Both }).unwrap();
        feeding.running.until(|_| dropped.load(Ordering::SeqCst));
        feeding.running.until(|running| running.server.connections() == 0);
    }
}

/// Yields as many bytes as are requested, and counts them.
struct Counted {
    left: u64,
    given: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.left.min(buffer.len() as u64) as usize;
        buffer[..count].fill(b'x');
        self.left -= count as u64;
        self.given.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }
}

#[test]
fn a_slow_reader_slows_the_stream_and_is_closed_when_it_stands() {
    let given = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&given);
    let mut settings = settings(Role::Client);
    settings.limits.write_timeout = SOON;
    let running = start_with(
        settings,
        FakePipe::streaming(move |_, _| {
            let endless = Counted { left: u64::MAX, given: Arc::clone(&counter) };
            Ok(Reply::new("a/b", Body::stream(endless, None)))
        }),
    );
    let mut caller = running.call();
    caller.send(GET);
    caller.answer_to_head();
    let started = Instant::now();
    running.until(|running| running.server.connections() == 0);
    assert!(started.elapsed() >= SOON);
    // What the kernel buffers, and no more.
    assert!(given.load(Ordering::SeqCst) < 64 << 20, "{given:?}");
}

#[test]
fn three_hundred_megabytes_pass_in_constant_memory() {
    if !alone("downloads::three_hundred_megabytes_pass_in_constant_memory", USUAL_FILES) {
        return;
    }
    const SIZE: u64 = 300 << 20;
    let most_held = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    let running = start_with(
        settings(Role::Client),
        FakePipe::streaming(|event, _| {
            let taken = io::copy(&mut event.body, &mut io::sink()).unwrap();
            let body = Counted { left: taken, given: Arc::default() };
            Ok(Reply::new("a/b", Body::stream(body, Some(taken))))
        }),
    );
    let mut caller = running.call();
    let before = most_held();
    caller.send(&format!(
        "PUT /server/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n"
    ));
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..SIZE >> 20 {
        caller.send_bytes(&piece);
    }
    let uploaded = most_held();
    let head = caller.answer_to_head();
    assert_eq!(head.header("Content-Length"), Some(SIZE.to_string().as_str()));
    let read = io::copy(&mut (&mut caller).take(SIZE), &mut io::sink()).unwrap();
    assert_eq!(read, SIZE);
    for held in [uploaded, most_held()] {
        // Other tests run concurrently, with a body of 64 MiB.
        assert!(held < before + SIZE / 2, "{before} bytes before, {held} now");
    }
}
