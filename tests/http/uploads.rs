//! Request bodies that are read while the pipe forwards them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use restpipe::event::pipe::{Caller as Waiting, RequestError};
use restpipe::event::{Body, Event, Reply};
use restpipe::handler::Role;

use crate::harness::{Caller, FakePipe, GET, PATIENCE, Running, SOON, settings, start_with};

const PUT: &str = "PUT /server/x HTTP/1.1\r\nHost: localhost\r\n";

fn streaming(
    answerer: impl Fn(&mut Event, &dyn Waiting) -> Result<Reply, RequestError> + Send + Sync + 'static,
) -> Running {
    start_with(settings(Role::Client), FakePipe::streaming(answerer))
}

/// Reads bodies on its own thread, as the pipe does, and returns what it read.
fn echoing() -> Running {
    streaming(|event, _| {
        let (length, mut body) = (event.body.length(), event.body.take_out());
        let (sender, receiver) = bounded::<io::Result<Vec<u8>>>(4);
        thread::Builder::new()
            .name("upload".into())
            .spawn(move || {
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let piece = body.read(&mut buffer).map(|count| buffer[..count].to_vec());
                    let is_last = piece.as_ref().map_or(true, Vec::is_empty);
                    if sender.send_timeout(piece, PATIENCE).is_err() || is_last {
                        return;
                    }
                }
            })
            .unwrap();
        Ok(Reply::new("a/b", Body::stream(Pieces { receiver, rest: Vec::new() }, length)))
    })
}

struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    rest: Vec<u8>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.receiver.recv_timeout(PATIENCE).map_err(io::Error::other)??;
        }
        let count = (&self.rest[..]).read(buffer)?;
        self.rest.drain(..count);
        Ok(count)
    }
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// The body in chunked coding, split at random.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(body.len() as u64);
    let mut coded = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(random.usize(1..=rest.len().min(40_000)));
        write!(coded, "{:x};x=y\r\n", chunk.len()).unwrap();
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
        rest = behind;
    }
    coded.extend_from_slice(b"0\r\nX-Trailer: dropped\r\n\r\n");
    coded
}

/// A whole request, with a length and in chunks.
fn in_both_codings(body: &[u8]) -> [Vec<u8>; 2] {
    let length = format!("{PUT}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    let coding = format!("{PUT}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    [[length, body.to_vec()].concat(), [coding, chunked(body)].concat()]
}

#[test]
fn bodies_of_any_size_come_back_identical_on_one_connection() {
    let running = echoing();
    let mut random = fastrand::Rng::with_seed(4);
    let mut sizes = vec![0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_000_000];
    sizes.extend((0..20).map(|_| random.usize(..300_000)));
    let mut caller = running.call();
    for size in sizes {
        let body = bytes(size);
        for request in in_both_codings(&body) {
            let mut writer = caller.stream.try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(move || writer.write_all(&request).unwrap());
                assert!(caller.answer().body == body, "{size}");
            });
        }
    }
}

/// Split within the first bytes, within the last, and anywhere between.
#[test]
fn a_cut_upload_is_an_error_and_never_an_end() {
    let wholes = Arc::new(AtomicUsize::new(0));
    let (report, ends) = unbounded();
    let count = Arc::clone(&wholes);
    let running = streaming(move |event, _| {
        let mut body = event.body.take_out();
        let read = io::copy(&mut body, &mut io::sink());
        count.fetch_add(usize::from(read.is_ok()), Ordering::SeqCst);
        report
            .send(read.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof))
            .unwrap();
        match read {
            Ok(_) => Ok(Reply::new("a/b", "")),
            Err(error) => Err(RequestError::Body(error.to_string())),
        }
    });
    let body = bytes(20_000);
    for request in in_both_codings(&body) {
        let head = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        let coded = request.len() - head;
        let cuts =
            (0..300).chain((300..coded - 300).step_by(coded / 420)).chain(coded - 300..coded);
        let cuts: Vec<usize> = cuts.collect();
        assert!(cuts.len() >= 1000, "{}", cuts.len());
        for cut in cuts {
            let mut caller = running.call();
            caller.send_bytes(&request[..head + cut]);
            caller.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(ends.recv_timeout(PATIENCE), Ok(true), "{cut} of {coded}");
            assert_eq!(caller.answer().status, 400, "{cut} of {coded}");
        }
    }
    assert_eq!(wholes.load(Ordering::SeqCst), 0);
    let mut caller = running.call();
    caller.send_bytes(&in_both_codings(&body)[1]);
    assert_eq!(caller.answer().status, 200, "the test can tell a whole body");
}

#[test]
fn what_is_wrong_with_a_streamed_body_is_said() {
    let mut settings = settings(Role::Client);
    settings.limits.body_timeout = SOON;
    let running = start_with(settings, FakePipe::default());
    let cases = [
        ("Content-Length: 20000\r\n\r\nabc", 408, "body_timeout"),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nab", 408, "body_timeout"),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefg", 400, "bad_request"),
        ("Transfer-Encoding: chunked\r\n\r\nxyz", 400, "bad_request"),
    ];
    for (rest, status, error) in cases {
        let mut caller = running.call();
        caller.send(&format!("{PUT}{rest}"));
        let answer = caller.answer();
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{rest:?}");
        assert_eq!(answer.header("Connection"), Some("close"));
        assert!(caller.is_closed());
    }
    assert_eq!(running.pipe.seen().len(), 0, "none of them is whole");
}

#[test]
fn a_wait_for_the_body_has_the_limit_of_its_reader() {
    let (seen, waits) = unbounded();
    let running = streaming(move |event, _| {
        let mut buffer = [0; 100];
        loop {
            match event.body.read_within(&mut buffer, Duration::from_millis(10)) {
                Ok(Some(0)) => return Ok(Reply::new("a/b", "")),
                Ok(read) => seen.send(read).unwrap(),
                Err(error) => return Err(RequestError::Body(error.to_string())),
            }
        }
    });
    for (head, first, rest) in [
        ("Content-Length: 20000", "abc".to_owned(), "x".repeat(19_997)),
        ("Transfer-Encoding: chunked", "5\r\nabc".to_owned(), "xx\r\n0\r\n\r\n".to_owned()),
    ] {
        let mut caller = running.call();
        caller.send(&format!("{PUT}{head}\r\n\r\n{first}"));
        while waits.recv_timeout(PATIENCE).unwrap().is_some() {}
        assert_eq!(waits.recv_timeout(PATIENCE).unwrap(), None, "it is asked again");
        caller.send(&rest);
        assert_eq!(caller.answer().status, 200, "{head}");
        while waits.try_recv().is_ok() {}
    }
}

#[test]
fn a_body_is_asked_for_when_somebody_reads_it() {
    let (release, released) = bounded::<()>(1);
    let running = streaming(move |event, _| {
        if event.target.noun() == "unread" {
            return Ok(Reply::new("a/b", "no, thanks").with_status(403));
        }
        assert!(event.body.waits_for_reader());
        released.recv_timeout(PATIENCE).unwrap();
        let length =
            event.body.gather(1 << 20).map_err(|e| RequestError::Body(e.to_string()))?.len();
        Ok(Reply::new("a/b", length.to_string()))
    });
    for (framing, body) in [
        ("Content-Length: 20000", "x".repeat(20_000)),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n".to_owned()),
    ] {
        let mut caller = running.call();
        let head = format!("{PUT}Expect: 100-continue\r\n{framing}\r\n\r\n");
        caller.send(&head);
        caller.stream.set_read_timeout(Some(SOON)).unwrap();
        assert!(caller.stream.peek(&mut [0]).is_err(), "asked for before it was read");
        caller.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        release.send(()).unwrap();
        assert_eq!(caller.line(), "HTTP/1.1 100 Continue\r\n");
        assert_eq!(caller.line(), "\r\n");
        caller.send(&body);
        let expected = if framing.starts_with('C') { "20000" } else { "3" };
        let answer = caller.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, expected));
        // If never requested, it is refused at once.
        caller.send(&head.replace("/x", "/unread"));
        let answer = caller.answer();
        assert_eq!((answer.status, answer.header("Connection")), (403, Some("close")));
        assert!(caller.is_closed());
    }
}

#[test]
fn the_next_request_does_not_wait_for_a_body_that_was_read_to_its_end() {
    let (keep, kept) = unbounded();
    let running = streaming(move |event, _| {
        let mut body = event.body.take_out();
        let read = io::copy(&mut body, &mut io::sink()).unwrap();
        keep.send(body).unwrap();
        Ok(Reply::new("a/b", read.to_string()))
    });
    let mut caller = running.call();
    for request in in_both_codings(&bytes(20_000)) {
        caller.send_bytes(&request);
        let answer = caller.answer();
        assert_eq!((answer.text().as_str(), answer.header("Connection")), ("20000", None));
    }
    assert_eq!(kept.len(), 2);
}

/// Also on the pipe's own thread, where the answer overtakes the body.
#[test]
fn an_early_reply_ends_an_endless_upload() {
    let running = streaming(|event, _| {
        if event.target.noun() == "beside" {
            let mut body = event.body.take_out();
            let name = "upload".to_owned();
            thread::Builder::new()
                .name(name)
                .spawn(move || body.read_exact(&mut vec![0; 3_000_000]).is_ok())
                .unwrap();
        } else {
            event.body.read_exact(&mut [0; 100_000]).unwrap();
        }
        Ok(Reply::new("a/b", "enough").with_status(403))
    });
    for noun in ["x", "beside"] {
        let mut caller = running.call();
        let mut writer = caller.stream.try_clone().unwrap();
        let head = PUT.replace("/x", &format!("/{noun}"));
        let endless = thread::spawn(move || {
            writer.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            loop {
                writer.write_all(chunk.as_bytes())?;
            }
        });
        let answer = caller.answer();
        assert_eq!((answer.status, answer.text().as_str()), (403, "enough"), "{noun}");
        assert_eq!(answer.header("Connection"), Some("close"));
        running.until(|running| running.server.connections() == 0);
        let ended: io::Result<()> = endless.join().unwrap();
        assert!(ended.is_err());
    }
}

#[test]
fn a_caller_that_goes_away_is_noticed() {
    let (entered, in_pipe) = bounded(1);
    let (report, gone) = bounded(1);
    let running = streaming(move |_, caller| {
        assert!(!caller.is_gone());
        entered.send(()).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while !caller.is_gone() {
            assert!(std::time::Instant::now() < deadline);
            thread::park_timeout(Duration::from_millis(5));
        }
        report.send(()).unwrap();
        Err(RequestError::CallerGone)
    });
    for request in [GET.to_owned(), format!("{PUT}Content-Length: 20000\r\n\r\n")] {
        let mut caller = running.call();
        caller.send(&request);
        in_pipe.recv_timeout(PATIENCE).unwrap();
        caller.stream.shutdown(Shutdown::Write).unwrap();
        gone.recv_timeout(PATIENCE).unwrap();
        assert!(caller.is_closed(), "without a word");
    }
}

#[test]
fn the_headers_of_a_request_cross() {
    let running = start_with(settings(Role::Client), FakePipe::default());
    let mut caller: Caller = running.call();
    caller.send(
        "PUT /server/x HTTP/1.1\r\nHost: localhost:1\r\nX-Mine: a b\r\nConnection: X-Mine\r\n\
         If-None-Match: \"x\"\r\nCookie: a\r\ncookie: b\r\nX-Forwarded-Host: rpclient.local\r\n\
         Content-Type: c/d\r\nContent-Length: 1\r\nRP-Wait: 1\r\n\r\nx",
    );
    assert_eq!(caller.answer().status, 200);
    let expected = [
        ("If-None-Match", "\"x\""),
        ("Cookie", "a"),
        ("cookie", "b"),
        ("X-Forwarded-Host", "rpclient.local"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(running.pipe.only().event.headers, expected);
}
