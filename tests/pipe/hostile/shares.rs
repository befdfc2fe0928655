//! Peers with valid certificates that take all they can get. Each has its share of memory, handlers,
//! scripts and carried connections, whatever it sends and however often it connects; the others are
//! served.

use std::time::{Duration, Instant};

use crate::support::alone::alone;
use crate::support::message::{self, message};
use crate::support::peer::Peer;
use crate::support::scene::{Scene, wait_until};
use crate::support::tls::dialing;
use crate::support::{self, Identities, PATIENCE, client, server};

const CHUNK: u8 = 0x03;
const REPLY: u8 = 0x81;
/// The part of a body that may be sent without credit.
const UNASKED: usize = 64 * 1024;
/// What all that one peer makes a server hold may take, with bodies of at most one MiB.
const HELD_KB: u64 = 66 * 1024;

/// A field of protobuf that holds bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    for mut value in [number << 3 | 2, bytes.len() as u64] {
        while value >= 0x80 {
            field.push(value as u8 | 0x80);
            value >>= 7;
        }
        field.push(value as u8);
    }
    field.extend_from_slice(bytes);
    field
}

/// An event whose body follows in pieces, with these further fields.
fn streamed(id: u32, verb: &str, noun: &str, more: &[u8]) -> Vec<u8> {
    let event = message::event(id, verb, noun, b"");
    // Field 18, true.
    message(message::EVENT, id, &[&event[10..], more, &[0x90, 1, 1]].concat())
}

/// Announces bodies in pieces, and waits for the answer.
fn link(mut peer: Peer) -> Peer {
    peer.send(&message(message::HEARTBEAT, 1, &[8, 1, 0x80, 1, 3])).unwrap();
    peer.frame_of(message::HEARTBEAT_REPLY);
    peer
}

fn linked(scene: &Scene, name: &str) -> Peer {
    let config = dialing(Some((&scene.identities, name)));
    link(Peer::dial(scene.server.pipe(), config).unwrap())
}

/// The texts of the replies to `count` events.
fn replies(peer: &mut Peer, count: usize) -> Vec<String> {
    let mut replies = Vec::new();
    while replies.len() < count {
        let frame = peer.frame_within(PATIENCE).expect("no further reply");
        if frame.kind == REPLY {
            replies.push(String::from_utf8_lossy(&frame.body).into_owned());
        }
    }
    replies
}

#[test]
fn all_that_one_peer_makes_a_server_hold_has_one_bound() {
    const EVENTS: u32 = 2048;
    let scene = Scene::new(true);
    // As much as each part may have: headers, a path that is kept as it came and decoded, and the
    // part of a body that may come before it is read.
    let header = field(17, &[field(1, b"X-Large"), field(2, &[b'x'; 16_000])].concat());
    let path = format!("digest//{}%20", "x".repeat(16_000));
    let large = [field(16, path.as_bytes()), header].concat();
    let mut hostile = linked(&scene, "hostile");
    for id in 0..EVENTS {
        let event = streamed(id, "post", "digest", &large);
        let body: Vec<u8> = message(CHUNK, id, &[b'x'; UNASKED / 4]).repeat(4);
        hostile.send(&[event, body].concat()).unwrap();
    }
    let refused = replies(&mut hostile, EVENTS as usize - HELD_KB as usize / 112 - 1);
    assert!(refused.iter().all(|reply| reply.contains("too many requests of this peer")));
    scene.assert_served();
    let peak = scene.server.status_number("VmHWM");
    println!("{} refused, peak {peak} kB, before {} kB", refused.len(), scene.memory);
    // The allocator and the buffers of the link take a little more.
    assert!(peak < scene.memory + HELD_KB + HELD_KB / 2, "{peak} kB, was {}", scene.memory);

    // Connecting again is no way around it: handlers still hold what came before.
    drop(hostile);
    scene.server.wait_log(&["hostile: lost"]);
    let mut again = linked(&scene, "hostile");
    again.send(&message::event(1, "get", "time", b"")).unwrap();
    assert_eq!(again.frame_of(REPLY).id, 1);
}

#[test]
fn a_long_media_type_is_refused_by_name() {
    let scene = Scene::new(true);
    let mut hostile = linked(&scene, "hostile");
    let with_type = |id: u32, length: usize| {
        let media_type = field(4, &vec![b'x'; length]);
        let event = message::event(id, "post", "echo", b"");
        message(message::EVENT, id, &[&event[10..], &media_type[..]].concat())
    };
    for (id, length, refused) in [(1, 1024, false), (2, 1025, true), (3, 60_000, true)] {
        hostile.send(&with_type(id, length)).unwrap();
        let reply = hostile.frame_of(REPLY);
        assert_eq!(reply.id, id);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let told = text.contains("the media type is longer than 1024 bytes");
        assert_eq!(told, refused, "{length}: {text:?}");
    }
    let long = "x".repeat(1025);
    let answer = scene.client.ask("POST", "/server/echo", &[("Content-Type", &long)], b"x");
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"].as_str().unwrap().contains("longer than 1024 bytes"));
}

#[test]
fn many_peers_with_stalled_requests_leave_handlers_for_others() {
    let scene = Scene::new(true);
    let names: Vec<String> = (0..9).map(|at| format!("hostile-{at}")).collect();
    let mut hostile = Vec::new();
    for name in &names {
        scene.identities.ca(&["issue", name, "--client"]);
        // The second link takes the place of the first; what runs for that goes on.
        for round in 0..2 {
            let mut peer = linked(&scene, name);
            for id in 0..150 {
                peer.send(&streamed(150 * round + id, "post", "digest", b"")).unwrap();
            }
            hostile.push(peer);
        }
    }
    let busy = || {
        let status = scene.server.get("/status").json();
        let handlers = &status["handler_pool"];
        handlers["threads"].as_u64().unwrap() - handlers["idle"].as_u64().unwrap()
    };
    // More than half of all handlers are in use.
    wait_until(|| (busy() < 800).then(|| format!("{} handlers are busy", busy())));
    for _ in 0..3 {
        scene.assert_served();
    }
    assert!(busy() < 1024);
}

#[test]
fn clients_that_take_all_scripts_leave_some_for_others() {
    let identities = Identities::new(&["good", "hostile-0", "hostile-1"]);
    let scripts = tempfile::tempdir().unwrap();
    support::write_script(&scripts.path().join("get_hang"), "#!/bin/sh\nexec sleep 1000\n");
    support::write_script(&scripts.path().join("get_quick"), "#!/bin/sh\necho quick\n");
    let handler = format!("exec:{}", scripts.path().display());
    let server = server(&identities).set("RP_EVENT_HANDLER", handler).start();
    let good = client(&identities, "good", server.pipe()).start();
    assert_eq!(good.get_when_up("/server/quick").text(), "quick\n");
    // All that one may have, and then half of what is left.
    let mut hostile = [("hostile-0", 64), ("hostile-1", 32)].map(|(name, most)| {
        let config = dialing(Some((&identities, name)));
        let mut peer = link(Peer::dial(server.pipe(), config).unwrap());
        for id in 0..100 {
            peer.send(&message::event(id, "get", "hang", b"")).unwrap();
        }
        let refused = replies(&mut peer, 100 - most);
        assert!(refused.iter().all(|reply| reply.contains("too many scripts are running")));
        peer
    });
    for _ in 0..100 {
        assert_eq!(good.get("/server/quick").status, 200);
    }
    // None of those that hang was given up for it.
    for peer in &mut hostile {
        assert!(peer.frame_within(Duration::ZERO).is_none_or(|frame| frame.kind != REPLY));
    }
}

#[test]
fn a_client_that_takes_all_carried_connections_leaves_some_for_others() {
    const MOST: u32 = 1024;
    let name =
        "hostile::shares::a_client_that_takes_all_carried_connections_leaves_some_for_others";
    if !alone(name, 4096) {
        return;
    }
    let identities = Identities::new(&["good", "hostile"]);
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let targets = format!("t={}", target.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept: Vec<_> = Vec::new();
        while let Ok((mut socket, _)) = target.accept() {
            use std::io::Write;
            let _ = socket.write_all(b"hello");
            kept.push(socket);
        }
    });
    let server = server(&identities).set("RP_TCP_TARGETS", targets);
    let server = support::Node::start(server.command_after("ulimit -n 4096"));
    let config = dialing(Some((&identities, "hostile")));
    let mut hostile = link(Peer::dial(server.pipe(), config).unwrap());
    for id in 0..MOST + 100 {
        hostile.send(&streamed(id, "connect", "t", b"")).unwrap();
    }
    let refused = {
        let all = replies(&mut hostile, MOST as usize + 100);
        all.iter().filter(|reply| reply.contains("too many connections are carried")).count()
    };
    assert_eq!(refused, 100);
    let good = client(&identities, "good", server.pipe())
        .set("RP_TCP_LISTEN", "127.0.0.1:0=server/t")
        .start();
    let began = Instant::now();
    let mut socket = std::net::TcpStream::connect(good.ready("tcp")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = [0; 5];
    std::io::Read::read_exact(&mut socket, &mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    assert!(began.elapsed() < Duration::from_secs(10));
}
