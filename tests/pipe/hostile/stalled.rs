//! Clients that stall, against the real server: each gets ten seconds, costs little, and blocks
//! nobody else.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ask;
use crate::support::message::{event, heartbeat};
use crate::support::peer::Peer;
use crate::support::scene::{SMALL_BODY, Scene, assert_ten_seconds, read_to_end, wait_until};
use crate::support::tls::dialing;

/// A ClientHello.
fn client_hello() -> Vec<u8> {
    let name = "localhost".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(dialing(None), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

pub fn a_connection_that_says_nothing_is_closed_after_three_seconds() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let started = Instant::now();
    read_to_end(&mut TcpStream::connect(scene.server.pipe()).unwrap());
    let lived = started.elapsed();
    assert!((2900..8000).contains(&lived.as_millis()), "closed after {lived:?}");
    scene.assert_recovered(skip, "refused: it sent nothing within 3s");
    scene.assert_threads(0);
}

pub fn an_unfinished_handshake_is_closed_after_ten_seconds() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let started = Instant::now();
    let mut strangers: Vec<TcpStream> =
        (0..2).map(|_| TcpStream::connect(scene.server.pipe()).unwrap()).collect();
    // The first stops in the middle, the second never finishes.
    let hello = client_hello();
    strangers[0].write_all(&hello[..hello.len() / 2]).unwrap();
    let mut drops = hello.iter();
    while started.elapsed() < Duration::from_millis(9500) {
        strangers[1].write_all(&[*drops.next().unwrap()]).unwrap();
        scene.assert_served();
        thread::sleep(Duration::from_millis(250));
    }
    for stranger in &mut strangers {
        read_to_end(stranger);
        let lived = started.elapsed();
        assert_ten_seconds(lived);
    }
    scene.assert_recovered(skip, "refused: the TLS handshake was not finished in time");
    scene.assert_threads(0);
}

pub fn six_hundred_silent_connections_keep_nobody_out() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let mut strangers: Vec<TcpStream> =
        (0..600).map(|_| TcpStream::connect(scene.server.pipe()).unwrap()).collect();
    for stranger in &strangers {
        stranger.set_nonblocking(true).unwrap();
    }
    let closed = |strangers: &mut Vec<TcpStream>| {
        let is_open = |mut stranger: &TcpStream| matches!(stranger.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        strangers.iter().filter(|stranger| !is_open(stranger)).count()
    };
    // 512 may be in a handshake; the others are closed at once.
    wait_until(|| {
        let closed = closed(&mut strangers);
        (closed < 600 - 512).then(|| format!("{closed} closed"))
    });
    let line = "WARN  127.0.0.1:";
    scene.server.wait_log_from(skip, &[line, "too many have not shown who they are"]);
    scene.assert_served();

    // A client with a key connects from the same address after they have been silent for a second.
    let started = Instant::now();
    let mut newcomer = loop {
        let identity = dialing(Some((&scene.identities, "hostile")));
        match Peer::dial(scene.server.pipe(), identity) {
            Ok(newcomer) => break newcomer,
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
        assert!(started.elapsed() < Duration::from_secs(5), "nobody gets in");
    };
    newcomer.send(&event(7, "get", "time", b"")).unwrap();
    assert_eq!(newcomer.frame().id, 7);
    newcomer.close().unwrap();
    newcomer.wait_end();
    for stranger in &mut strangers {
        stranger.set_nonblocking(false).unwrap();
        read_to_end(stranger);
    }
    scene.server.wait_log_from(skip, &["hostile: lost", "closed by the peer"]);
    for reason in ["refused: too many have", "took its place", "sent nothing within"] {
        let refusals = scene.server.log().iter().filter(|line| line.contains(reason)).count();
        assert!(refusals <= 2, "one line in ten seconds: {:#?}", scene.server.log());
    }
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile();
    hostile.close().unwrap();
    hostile.wait_end();
    scene.assert_recovered(skip, "hostile: lost");
    scene.assert_threads(0);
}

pub fn a_client_that_reads_no_requests_costs_little_and_only_itself() {
    let mut scene = Scene::new(true);
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile_with_small_buffer();
    hostile.send(&heartbeat(1)).unwrap();
    scene.server.wait_log(&["hostile: connected"]);
    let http = scene.server.http();
    let started = Instant::now();
    let callers: Vec<_> = (0..12)
        .map(|_| {
            thread::spawn(move || {
                let body = vec![b'x'; SMALL_BODY];
                ask(http, "POST", "/client/hostile/x", &[("RP-Wait", "1")], &body).status
            })
        })
        .collect();
    // Alive, but reading nothing.
    while !scene.server.log()[skip..].iter().any(|line| line.contains("hostile: lost")) {
        let _ = hostile.send(&heartbeat(1));
        scene.assert_served();
        // One write that moved something before it stalled, and one that moves nothing.
        assert!(started.elapsed() < Duration::from_secs(25), "it may stay for ever");
        thread::sleep(Duration::from_millis(500));
    }
    let mut statuses: Vec<u16> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    statuses.sort_unstable();
    let peak = scene.server.status_number("VmHWM");
    println!("{statuses:?} after {:?}, peak {peak} kB", started.elapsed());
    // Requests that may have reached it end with an unknown outcome; the others were never sent.
    assert!(statuses.iter().all(|status| matches!(status, 502 | 503)), "{statuses:?}");
    assert!(statuses.contains(&502) && statuses.contains(&503), "{statuses:?}");
    assert!(peak < scene.memory + 128 * 1024, "{peak} kB, was {}", scene.memory);
    scene.assert_recovered(skip, "cannot send to it: it took nothing for 5 s");
    scene.assert_threads(0);
}
