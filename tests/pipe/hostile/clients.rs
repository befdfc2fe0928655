//! Malicious or broken clients against the real server. Whatever they do, it stays up, frees what it
//! allocated, logs once why it dropped them, and serves the others.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::support::message::{
    HEARTBEAT_REPLY, REPLY, broken_messages, event, heartbeat, heartbeat_reply, reply,
};
use crate::support::peer::{Ended, Peer};
use crate::support::scene::{Scene, read_to_end};
use crate::support::tls::{dialing, dialing_with, endless_chain, issue};
use crate::support::{Identities, PATIENCE};

#[test]
fn a_client_that_breaks_the_protocol_is_closed_with_the_reason() {
    let mut scene = Scene::new(false);
    for (bytes, reason) in broken_messages() {
        let skip = scene.server.log().len();
        let mut hostile = scene.hostile();
        // The server may close before it has read all.
        let _ = hostile.send(&bytes);
        hostile.wait_end();
        drop(hostile);
        scene.assert_recovered(skip, &format!("protocol error: {reason}"));
    }
    scene.assert_threads(0);
}

#[test]
fn messages_arrive_however_they_are_cut() {
    let scene = Scene::new(false);
    let mut hostile = scene.hostile();
    let bytes = [heartbeat(1), event(2, "get", "cat//a/b", b"x"), heartbeat(3)].concat();
    for length in [1, 3, 10, 11, 1000] {
        hostile.send_cut(&bytes, length).unwrap();
        let mut ids: Vec<u32> = (0..3).map(|_| hostile.frame().id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
    }
}

#[test]
fn a_client_that_ends_in_the_middle_is_lost_with_the_reason() {
    let mut scene = Scene::new(false);
    let event = event(7, "get", "time", b"");
    let abort =
        |peer: &Peer| socket2::SockRef::from(peer.socket()).set_linger(Some(Duration::ZERO));
    let ways: [(&dyn Fn(Peer), &str); 4] = [
        (
            &|mut peer| {
                peer.close().unwrap();
                assert_eq!(peer.wait_end(), Ended::Properly);
            },
            "closed in the middle of a message",
        ),
        (
            &|mut peer| {
                peer.hang_up();
                peer.wait_end();
            },
            "ended without TLS's close",
        ),
        (&|peer| abort(&peer).unwrap(), "connection broken: Connection reset by peer"),
        (
            &|mut peer| {
                peer.socket().write_all(&[0x17, 3, 3, 0, 20].repeat(10)).unwrap();
                let ended = peer.wait_end();
                assert!(
                    matches!(&ended, Ended::Tls(alert) if alert.contains("BadRecordMac")),
                    "{ended:?}"
                );
            },
            "TLS error: cannot decrypt peer's message",
        ),
    ];
    for (end, reason) in ways {
        for length in [4, event.len() - 1] {
            let skip = scene.server.log().len();
            let mut hostile = scene.hostile();
            hostile.send(&heartbeat(1)).unwrap();
            assert_eq!(hostile.frame().kind, HEARTBEAT_REPLY);
            hostile.send(&event[..length]).unwrap();
            end(hostile);
            scene.assert_recovered(skip, reason);
        }
    }
    scene.assert_threads(0);
}

#[test]
fn a_reply_to_nothing_is_ignored() {
    let scene = Scene::new(false);
    let mut hostile = scene.hostile();
    hostile.send(&heartbeat(1)).unwrap();
    assert_eq!(hostile.frame().kind, HEARTBEAT_REPLY);
    scene.server.wait_log(&["hostile: connected"]);
    let skip = scene.server.log().len();
    for id in 0..10_000 {
        hostile.send(&reply(id, "text/plain", 0, b"unasked")).unwrap();
        hostile.send(&heartbeat_reply(id)).unwrap();
    }
    hostile.send(&event(7, "get", "time", b"")).unwrap();
    let frame = hostile.frame();
    assert_eq!((frame.kind, frame.id), (REPLY, 7));
    scene.assert_served();
    assert_eq!(scene.server.log().len(), skip);
}

/// The attack on a scene.
type Attack<'a> = &'a dyn Fn(&Scene);

#[test]
fn a_stranger_is_refused_with_the_reason() {
    let other = Identities::new(&["hostile"]);
    fn dial(scene: &Scene, identity: Option<(&Identities, &str)>) {
        let ended = match Peer::dial(scene.server.pipe(), dialing(identity)) {
            Ok(mut peer) => peer.wait_end(),
            Err(ended) => ended,
        };
        assert!(matches!(ended, Ended::Tls(_)), "it is told why: {ended:?}");
    }
    let issued = |scene: &Scene, change: fn(&mut rcgen::CertificateParams)| {
        issue(&scene.identities, "odd", change);
        dial(scene, Some((&scene.identities, "odd")));
    };
    let write = |scene: &Scene, bytes: &[u8]| {
        let mut socket = TcpStream::connect(scene.server.pipe()).unwrap();
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(Shutdown::Write);
        read_to_end(&mut socket);
    };
    let table: [(Attack<'_>, &str); 9] = [
        (&|scene| write(scene, b"\x16"), "the peer closed the connection during the TLS handshake"),
        (
            &|scene| write(scene, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "refused: it speaks plain HTTP; this is the pipe port",
        ),
        (
            &|scene| write(scene, &[0x16; 1 << 20]),
            "the TLS handshake failed: received corrupt message",
        ),
        (&|scene| dial(scene, None), "refused: it sent no certificate"),
        (
            &|scene| dial(scene, Some((&other, "hostile"))),
            ": the certificate is not signed by a CA in ",
        ),
        (
            &|scene| issued(scene, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            ": the certificate expired on ",
        ),
        (
            &|scene| issued(scene, |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1)),
            ": the certificate is not valid before ",
        ),
        (
            &|scene| dial(scene, Some((&scene.identities, "localhost"))),
            ": the certificate's extended key usage forbids its use as a client",
        ),
        (
            &|scene| {
                issue(&scene.identities, "nameless", |params| {
                    params.distinguished_name = rcgen::DistinguishedName::new();
                });
                let config = dialing(Some((&scene.identities, "nameless")));
                let _ = Peer::dial(scene.server.pipe(), config).map(|mut peer| peer.wait_end());
            },
            ": the certificate has no name: ",
        ),
    ];
    for (attack, reason) in table {
        // A server of its own: refusals are logged at most every ten seconds.
        let mut scene = Scene::new(false);
        let skip = scene.server.log().len();
        attack(&scene);
        scene.assert_recovered(skip, reason);
        scene.assert_threads(0);
    }
}

#[test]
fn a_flood_of_heartbeats_without_reading_ends_the_link() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile_with_small_buffer();
    let heartbeats = heartbeat(7).repeat(10_000);
    let until = Instant::now() + PATIENCE;
    while hostile.send(&heartbeats).is_ok() {
        assert!(Instant::now() < until, "it may go on for ever");
    }
    scene.assert_recovered(skip, "it sends heartbeats without reading the answers");
    scene.assert_threads(0);
}

#[test]
fn a_client_that_reads_no_replies_costs_little_and_only_itself() {
    let mut scene = Scene::new(true);
    let skip = scene.server.log().len();
    let mut hostile = scene.hostile_with_small_buffer();
    // Each reply is as long as its request.
    let noun = format!("cat//{}", "x".repeat(15_000));
    let until = Instant::now() + PATIENCE;
    let mut id = 0;
    let mut sent = 0;
    loop {
        let requests: Vec<u8> = (0..100).flat_map(|n| event(id + n, "get", &noun, b"")).collect();
        id += 100;
        if hostile.send(&requests).is_err() {
            break;
        }
        sent += requests.len();
        assert!(Instant::now() < until, "it may go on for ever: {sent} bytes");
        scene.assert_served();
    }
    let peak = scene.server.status_number("VmHWM");
    println!("{sent} bytes of requests taken, peak {peak} kB, before {} kB", scene.memory);
    assert!(peak < scene.memory + 64 * 1024, "{peak} kB, was {}", scene.memory);
    scene.assert_recovered(skip, "hostile: lost");
    scene.server.wait_log_from(skip, &["cannot send to it: "]);
    scene.assert_threads(0);
}

#[test]
fn a_chain_of_many_ways_is_refused_before_one_is_tried() {
    let mut scene = Scene::new(false);
    let skip = scene.server.log().len();
    let config = dialing_with(Some(endless_chain("hostile")));
    let before = scene.server.cpu_time();
    for _ in 0..8 {
        let mut hostile = Peer::dial(scene.server.pipe(), config.clone()).unwrap();
        let ended = hostile.wait_end();
        let told = matches!(&ended, Ended::Tls(alert) if alert.contains("CertificateUnknown"));
        assert!(told, "{ended:?}");
    }
    // Trying all paths takes three seconds each in an optimized build.
    let spent = scene.server.cpu_time() - before;
    assert!(spent < Duration::from_secs(1), "it took {spent:?} of CPU time");
    let line = scene.server.wait_log_from(skip, &["refused: certificate CN=hostile (sha256 "]);
    assert!(line.contains("): the certificate chain has 2"), "{line}");
    assert!(line.contains(" intermediate certificates, more than 6; send only "), "{line}");
    assert!(scene.server.runs());
    scene.assert_served();
    scene.assert_threads(0);
}
