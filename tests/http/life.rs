//! Starting and stopping.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use restpipe::config::Bind;
use restpipe::event::inspect::Inspect;
use restpipe::event::pipe::Pipe;
use restpipe::event::{Body, Reply};
use restpipe::handler::Role;
use restpipe::http::HttpServer;

use crate::harness::{FakePipe, GET, PATIENCE, settings, start, start_with};

#[test]
fn a_unix_socket_serves_the_same_and_its_file_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let mut settings = settings(Role::Client);
    settings.bind = Bind::Unix(path.clone());
    let running = start_with(settings.clone(), FakePipe::default());
    assert_eq!(running.server.address().to_string(), format!("unix:{}", path.display()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let second = HttpServer::start(settings, Arc::clone(&running.pipe) as Arc<dyn Pipe>);
    let error = second.err().unwrap().to_string();
    assert_eq!(
        error,
        format!("cannot listen on unix:{}: already in use by a running program", path.display())
    );
    running.server.stop_accepting();
    assert!(!path.exists());
    assert!(UnixStream::connect(&path).is_err());
    assert!(running.server.drain(Instant::now() + PATIENCE));
}

#[test]
fn stopping_refuses_new_callers_and_lets_requests_end() {
    let (entered, in_pipe) = crossbeam_channel::bounded(1);
    let (release, released) = crossbeam_channel::bounded::<()>(1);
    let running = start_with(
        settings(Role::Client),
        FakePipe::answering(move |_| {
            entered.send_timeout((), PATIENCE).unwrap();
            released.recv_timeout(PATIENCE).unwrap();
            Ok(Reply::new("a/b", "late"))
        }),
    );
    let mut idle = running.call();
    idle.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.answer().status, 404);
    let mut busy = running.call();
    busy.send(&GET.repeat(2));
    in_pipe.recv_timeout(PATIENCE).unwrap();
    running.server.stop_accepting();
    assert!(running.try_call().is_err());
    assert!(idle.is_closed());
    release.send_timeout((), PATIENCE).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.text().as_str(), answer.header("Connection")), ("late", Some("close")));
    assert!(busy.is_closed(), "the second request is not taken up");
    assert!(running.server.drain(Instant::now() + PATIENCE));
    assert_eq!(running.pipe.seen().len(), 1);
}

#[test]
fn who_has_just_connected_gets_an_answer_from_a_port_that_stops() {
    let running = start();
    let mut new = running.call();
    running.server.stop_accepting();
    // It cannot know of the stop.
    new.send(&GET.repeat(2));
    let answer = new.answer();
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    assert!(new.is_closed(), "the second request is not taken up");
    assert!(running.server.drain(Instant::now() + PATIENCE));
}

#[test]
fn who_has_just_connected_and_says_nothing_holds_up_a_stop_for_a_moment() {
    let running = start();
    let mut silent = running.call();
    let started = Instant::now();
    assert!(running.server.drain(started + PATIENCE));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(900) && took < PATIENCE / 2, "{took:?}");
    assert!(silent.is_closed());
}

#[test]
fn who_is_in_the_middle_of_a_request_at_the_end_of_a_drain_is_told() {
    let running = start();
    let put = "PUT /server/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
    let parts = ["G", "GET /server/time HTTP/1.1\r\nHost: lo"].map(str::to_owned);
    let bodies = ["9\r\n\r\nhalf", "100000\r\n\r\nhalf"].map(|rest| format!("{put}{rest}"));
    let mut callers: Vec<_> = parts
        .into_iter()
        .chain(bodies)
        .map(|part| {
            let mut caller = running.call();
            caller.send(&part);
            caller
        })
        .collect();
    assert!(!running.server.drain(Instant::now() + Duration::from_millis(200)));
    for caller in &mut callers {
        let answer = caller.answer();
        assert_eq!((answer.status, answer.error().as_str()), (503, "stopping"));
        assert_eq!(answer.header("Connection"), Some("close"));
        assert!(caller.is_closed());
    }
    assert_eq!(running.server.connections(), 0);
}

#[test]
fn a_drain_cuts_what_is_left_at_its_deadline() {
    let running = start();
    let mut stuck = running.call();
    let put = "PUT /server/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
               Content-Length: 9\r\n\r\n";
    stuck.send(put);
    assert_eq!(stuck.line(), "HTTP/1.1 100 Continue\r\n");
    let started = Instant::now();
    assert!(!running.server.drain(started + Duration::from_millis(50)));
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(running.server.connections(), 0);
    assert_eq!(running.pipe.seen().len(), 0);
}

/// A node with an endless stream of events.
struct Endless;

impl Inspect for Endless {
    fn status(&self) -> Body {
        Body::empty()
    }

    fn client(&self, _: &str) -> Option<Body> {
        None
    }

    fn close_client(&self, _: &str) -> usize {
        0
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn events(&self) -> Option<Body> {
        Some(Body::stream(std::io::repeat(b'\n'), None))
    }
}

#[test]
fn one_who_asks_for_events_and_does_not_read_them_holds_up_no_stop() {
    let pipe = Arc::new(FakePipe::default()) as Arc<dyn Pipe>;
    let server =
        HttpServer::start_with(settings(Role::Client), Arc::clone(&pipe), Arc::new(Endless))
            .unwrap();
    let Bind::Tcp(address) = server.address() else { panic!("not on TCP") };
    let mut caller = TcpStream::connect(address).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    caller.read_exact(&mut [0; 4096]).unwrap();
    assert_eq!(server.connections(), 1);
    let started = Instant::now();
    assert!(server.finish(started + PATIENCE), "no request is in flight");
    assert!(!server.drain(Instant::now() + Duration::from_millis(50)), "it has to be cut off");
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(server.connections(), 0);
}
