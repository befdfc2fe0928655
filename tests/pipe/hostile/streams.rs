//! Peers that misuse streamed bodies: the link, or the body, ends with a named reason, memory is
//! freed, and others are served.

use std::time::{Duration, Instant};

use crate::support::message::{self, message};
use crate::support::peer::Peer;
use crate::support::scene::Scene;

const CHUNK: u8 = 0x03;
const END: u8 = 0x04;
const RESET: u8 = 0x05;
const CREDIT: u8 = 0x06;
const REPLY: u8 = 0x81;
const REPLY_RESET: u8 = 0x85;
/// The part of a body that may be sent without credit.
const UNASKED: usize = 64 * 1024;

/// An event followed by its body.
fn streamed(id: u32, verb: &str, noun: &str) -> Vec<u8> {
    let mut event = message::event(id, verb, noun, b"");
    // Field 18, true.
    event.extend_from_slice(&[0x90, 1, 1]);
    let length = (event.len() - 10) as u32;
    event[2..6].copy_from_slice(&length.to_be_bytes());
    event
}

/// A heartbeat that announces streamed bodies.
fn heartbeat() -> Vec<u8> {
    message(1, 1, &[8, 1, 0x80, 1, 3])
}

fn linked(scene: &Scene) -> Peer {
    let mut peer = scene.hostile();
    peer.send(&heartbeat()).unwrap();
    peer.frame_of(0x80);
    peer
}

#[test]
fn what_breaks_the_rules_of_bodies_ends_the_link_with_the_reason() {
    let mut scene = Scene::new(false);
    let chunk = |length| message(CHUNK, 7, &vec![b'x'; length]);
    let end = |total: u64| message(END, 7, &total.to_be_bytes());
    let credit = |count: u32| message(CREDIT, 7, &count.to_be_bytes());
    let bytes = || message::event(7, "get", "bytes//1000000000", b"");
    let none = "a piece of the body of 7, which was never begun or has ended";
    let rows: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![chunk(3)], none),
        (vec![end(3)], none),
        (vec![message(RESET, 7, b"why")], none),
        (vec![streamed(7, "post", "digest"), chunk(3), end(3), chunk(1)], none),
        (vec![streamed(7, "post", "digest"), message(RESET, 7, b""), end(0)], none),
        (
            // Nobody reads it, so no further credit is granted.
            [vec![streamed(7, "post", "nothing")], vec![chunk(16_384); UNASKED / 16_384 + 1]]
                .concat(),
            "more bytes of the body of 7 than were granted",
        ),
        (
            vec![streamed(7, "post", "digest"), chunk(3), end(4)],
            "the body of 7 ends after 3 bytes, but states 4",
        ),
        (vec![bytes(), credit(1), credit(u32::MAX)], "grants for the body of 7 that overflow"),
        (vec![bytes(), credit(0)], "grants for the body of 7 that overflow"),
        (
            vec![streamed(7, "post", "digest"), chunk(0)],
            "malformed message: an empty piece of a body",
        ),
        (vec![message(END, 7, &[0; 7])], "malformed message: an end of odd length"),
        (vec![message(CREDIT, 7, &[0; 3])], "malformed message: a grant of odd length"),
        (vec![message(RESET, 7, &[0xff])], "malformed message: text that is not UTF-8"),
        (vec![chunk(16_385)], "message of 16385 bytes announced, the most is 16384"),
        (
            vec![streamed(7, "post", "digest"), streamed(7, "post", "digest")],
            "event with id 7 while that id is in use",
        ),
    ];
    for (frames, reason) in rows {
        let skip = scene.server.log().len();
        let mut hostile = linked(&scene);
        if frames[0] == bytes() {
            // Credit is valid only once the reply has begun.
            hostile.send(&frames[0]).unwrap();
            hostile.frame_of(REPLY);
            let _ = hostile.send(&frames[1..].concat());
        } else {
            let _ = hostile.send(&frames.concat());
        }
        hostile.wait_end();
        drop(hostile);
        scene.assert_recovered(skip, &format!("protocol error: {reason}"));
    }
    scene.assert_threads(0);
}

/// A scene whose bodies may stall for one second only.
fn impatient() -> Scene {
    Scene::with("RP_REPLY_TIMEOUT_S", 1)
}

#[test]
fn a_thousand_bodies_that_never_come_hold_up_nobody() {
    let scene = impatient();
    let mut hostile = linked(&scene);
    let began = Instant::now();
    for id in 0..1000 {
        hostile.send(&streamed(id, "post", "digest")).unwrap();
    }
    scene.assert_served();
    // Each is given up after a second, so many run at once.
    let mut failed = 0;
    let mut heard = Instant::now();
    while failed < 1000 {
        let frame = hostile.frame();
        if frame.kind == REPLY {
            failed += 1;
        }
        if heard.elapsed() > Duration::from_secs(1) {
            hostile.send(&heartbeat()).unwrap();
            heard = Instant::now();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{failed} after {:?}", began.elapsed());
    }
    scene.assert_served();
    drop(hostile);
    scene.assert_threads(0);
}

#[test]
fn a_window_of_zero_for_ever_ends_the_body() {
    let scene = impatient();
    let mut hostile = linked(&scene);
    hostile.send(&message::event(7, "get", "bytes//1000000000", b"")).unwrap();
    let (mut kind, mut last) = (0, Vec::new());
    while kind != REPLY_RESET {
        let frame = hostile.frame();
        (kind, last) = (frame.kind, frame.body);
    }
    assert_eq!(last, b"it was not taken");
    // The link still works.
    hostile.send(&message::event(8, "get", "time", b"")).unwrap();
    assert_eq!(hostile.frame_of(REPLY).id, 8);
    scene.assert_served();
}

#[test]
fn a_storm_of_resets_costs_little() {
    let mut scene = Scene::new(false);
    let mut hostile = linked(&scene);
    let storm: Vec<u8> = (0..20_000)
        .flat_map(|id| [streamed(id, "post", "digest"), message(RESET, id, b"no")].concat())
        .collect();
    let skip = scene.server.log().len();
    // The server may close it for not reading the answers; either way nobody else is affected.
    let _ = hostile.send(&storm);
    scene.assert_served();
    hostile.hang_up();
    drop(hostile);
    scene.assert_recovered(skip, "hostile: lost");
    scene.assert_threads(0);
}
