//! A peer that speaks like the original, without extensions, in either role, with bytes recorded
//! from it.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use restpipe::config::{Bind, IdentityFiles, ServerConfig};
use restpipe::event::Reply;
use restpipe::handler::Router;
use restpipe::node::Server;

use crate::support::message::{
    self, EVENT, HEARTBEAT, HEARTBEAT_REPLY, REPLY, heartbeat_reply, message,
};
use crate::support::peer::{Ended, Frame, Peer};
use crate::support::tls::{accepting, dialing, issue};
use crate::support::{self, Answer, Identities, ask, client, server};

/// `GET time` as recorded: the header without its trailing id, and the body.
const RECORDED_GET_TIME: (&[u8], &[u8]) =
    (b"\x02\x00\x00\x00\x00\x11", b"\x08\x01\x12\x03get\x1a\x04time\x22\x00\x2a\x00");
/// A recorded body of its reply.
const RECORDED_REPLY: &[u8] =
    b"\x08\x01\x12\x10application/json\x18\x00\x22\x26{\"time_from_server\": 1795158476.29699}";
/// The recorded body of the reply to an unknown noun.
const RECORDED_UNHANDLED: &[u8] = b"\x08\x01\x12\x0atext/plain\x18\xff\x01\x22\x00";

/// An original: unknown messages kill it, so this one checks every message.
struct Original {
    peer: Peer,
    /// The ids of its unanswered heartbeats and events.
    outstanding: HashSet<u32>,
    next_id: u32,
}

impl Original {
    fn over(peer: Peer) -> Self {
        Self { peer, outstanding: HashSet::new(), next_id: 0xde94_e300 }
    }

    /// Connects to a server as the client `original`.
    fn dial(identities: &Identities, pipe: SocketAddr) -> Self {
        issue(identities, "original", |_| {});
        Self::over(Peer::dial(pipe, dialing(Some((identities, "original")))).unwrap())
    }

    /// Accepts the next client.
    fn accept(identities: &Identities, listener: &TcpListener) -> Self {
        Self::over(Peer::accept(listener, accepting(identities, "localhost")).unwrap())
    }

    /// Sends a heartbeat or an event and returns its id.
    fn ask(&mut self, kind: u8, body: &[u8]) -> u32 {
        self.next_id += 1;
        self.outstanding.insert(self.next_id);
        self.peer.send(&message(kind, self.next_id, body)).unwrap();
        self.next_id
    }

    fn reply(&mut self, id: u32, body: &[u8]) {
        self.peer.send(&message(REPLY, id, body)).unwrap();
    }

    /// The next message, which must be one that an original survives.
    fn frame(&mut self) -> Frame {
        let frame = self.peer.frame();
        assert_eq!(frame.flags, 0, "{frame:02x?}");
        assert!(frame.alone, "it shares its TLS record: {frame:02x?}");
        let tags = text_fields(&frame.body);
        match frame.kind {
            EVENT => {
                assert_eq!(tags, [8, 18, 26, 34, 42], "{frame:02x?}");
                assert!(frame.id >= 1_000_000_000, "{}", frame.id);
            }
            REPLY => {
                assert_eq!(tags, [8, 18, 24, 34], "{frame:02x?}");
                assert!(self.outstanding.remove(&frame.id), "an unknown id: {frame:02x?}");
            }
            HEARTBEAT | HEARTBEAT_REPLY => {
                assert_eq!(frame.body[..2], [8, 1], "{frame:02x?}");
                assert!(tags[1..].iter().all(|tag| tag >> 3 >= 16), "{frame:02x?}");
                if frame.kind == HEARTBEAT_REPLY {
                    assert!(self.outstanding.remove(&frame.id), "an unknown id: {frame:02x?}");
                }
            }
            kind => panic!("an unknown type: {kind:#04x}"),
        }
        frame
    }

    /// The next message of this type; answers heartbeats that come before it.
    fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame();
            if frame.kind == kind {
                return frame;
            }
            assert_eq!(frame.kind, HEARTBEAT, "{frame:02x?}");
            self.peer.send(&heartbeat_reply(frame.id)).unwrap();
        }
    }
}

/// The tags of a message's fields, in order; fields other than numbers must be 7-bit text.
fn text_fields(mut body: &[u8]) -> Vec<u64> {
    let mut tags = Vec::new();
    while !body.is_empty() {
        let tag = number(&mut body);
        let value = number(&mut body);
        match tag & 7 {
            0 => {}
            2 => {
                let (text, rest) = body.split_at(usize::try_from(value).unwrap());
                assert!(text.is_ascii(), "{text:02x?}");
                body = rest;
            }
            _ => panic!("a field with tag {tag}"),
        }
        tags.push(tag);
    }
    tags
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Sends a request to a local port from its own thread. Of the media type an original gets `text/plain`.
fn asking(http: SocketAddr, method: &'static str, path: &str, body: &[u8]) -> JoinHandle<Answer> {
    let (path, body) = (path.to_owned(), body.to_vec());
    const MEDIA_TYPE: &[(&str, &str)] = &[("Content-Type", "Text/Plain; charset=utf-8")];
    let headers = if body.is_empty() { &[] } else { MEDIA_TYPE };
    thread::spawn(move || ask(http, method, &path, headers, &body))
}

/// The exchange between an original in either role and our node. `http` is our local port, `prefix`
/// leads from there to the original.
fn converse(original: &mut Original, http: SocketAddr, prefix: &str, our_side: &str) {
    let path = |noun: &str| format!("{prefix}{noun}");

    let asked = asking(http, "GET", &path("time"), b"");
    let event = original.frame_of(EVENT);
    assert_eq!(event.bytes()[..6], *RECORDED_GET_TIME.0);
    assert_eq!(event.body, RECORDED_GET_TIME.1);
    // A reply that nobody waits for is harmless.
    original.reply(event.id ^ 1, RECORDED_REPLY);
    original.reply(event.id, RECORDED_REPLY);
    let answer = asked.join().unwrap();
    assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (200, Some("0")));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.text(), r#"{"time_from_server": 1795158476.29699}"#);

    // The noun is decoded and the query dropped.
    let asked = asking(http, "GET", &path("args//a%2Fb%20c?x=1"), b"");
    let event = original.frame_of(EVENT);
    let recorded = b"\x08\x01\x12\x03get\x1a\x0bargs//a/b c\x22\x00\x2a\x00";
    assert_eq!(event.body, recorded, "{:?}", String::from_utf8_lossy(&event.body));
    original.reply(event.id, RECORDED_UNHANDLED);
    let answer = asked.join().unwrap();
    assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (404, Some("255")));

    // An exception in its handler.
    let asked = asking(http, "POST", &path("cat"), b"text");
    let event = original.frame_of(EVENT);
    assert_eq!(event.body, b"\x08\x01\x12\x04post\x1a\x03cat\x22\x0atext/plain\x2a\x04text");
    let exception = br#"{"exception": {"message": "m", "traceback": "t", "class": "c"}}"#;
    let failed = message::reply(event.id, "application/json", 251, exception);
    original.peer.send(&failed).unwrap();
    let answer = asked.join().unwrap();
    assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (500, Some("251")));
    assert_eq!(answer.json()["exception"]["class"], "c");

    // A request that would kill it is answered at once and never sent: the next event is another one.
    for (noun, body) in [("cat", b"\xff\x00".as_slice()), ("caf%C3%A9", b"")] {
        let answer = asking(http, "POST", &path(noun), body).join().unwrap();
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(answer.json()["message"].as_str().unwrap().contains("original RestPipe"));
    }

    // The original sends a request to us.
    let id = original.ask(EVENT, RECORDED_GET_TIME.1);
    let reply = original.frame_of(REPLY);
    assert_eq!(reply.id, id);
    let text = String::from_utf8(reply.body).unwrap();
    let start =
        format!("\x08\x01\x12\x10application/json\x18\x00\x22&{{\"time_from_{our_side}\": ");
    // The number has no fixed width, so the length of the data may vary.
    assert_eq!(text.split_at(23).0, start.split_at(23).0);
    assert_eq!(text[24..].split(':').next(), start[24..].split(':').next());
    let id = original.ask(EVENT, b"\x08\x01\x12\x03get\x1a\x04nope\x22\x00\x2a\x00");
    let reply = original.frame_of(REPLY);
    assert_eq!((reply.id, reply.body.as_slice()), (id, RECORDED_UNHANDLED));
    // An absent media type and absent data count as empty.
    let id = original.ask(EVENT, b"\x08\x01\x12\x03get\x1a\x08cat//a/b");
    let reply = original.frame_of(REPLY);
    assert_eq!(reply.id, id);
    assert!(reply.body.ends_with(format!("{{\"result_from_{our_side}\": \"ab\"}}").as_bytes()));

    crowd(original, http, &path("time"));
}

/// 64 concurrent requests in either direction, each message in a record of its own.
fn crowd(original: &mut Original, http: SocketAddr, path: &str) {
    let callers: Vec<_> = (0..64).map(|_| asking(http, "GET", path, b"")).collect();
    let ids: HashSet<u32> = (0..64).map(|_| original.frame_of(EVENT).id).collect();
    assert_eq!(ids.len(), 64);
    for id in &ids {
        let data = id.to_string();
        original.peer.send(&message::reply(*id, "text/plain", 0, data.as_bytes())).unwrap();
    }
    let answers: HashSet<u32> =
        callers.into_iter().map(|caller| caller.join().unwrap().text().parse().unwrap()).collect();
    assert_eq!(answers, ids, "each caller has the reply to its own");

    for _ in 0..64 {
        original.ask(EVENT, RECORDED_GET_TIME.1);
    }
    for _ in 0..64 {
        original.frame_of(REPLY);
    }
    assert!(original.outstanding.is_empty());
}

#[test]
fn an_original_client_is_served() {
    let identities = Identities::new(&[]);
    let server = server(&identities).start();
    let mut original = Original::dial(&identities, server.pipe());

    // It has sent nothing yet. It is found by its address: its name is known once it is ready.
    let asked = asking(server.http(), "GET", "/client/127.0.0.1/time", b"");
    let event = original.frame();
    let waited = original.peer.connected.elapsed();
    assert_eq!(event.body, RECORDED_GET_TIME.1);
    assert!((900..5000).contains(&waited.as_millis()), "ready after {waited:?}");
    original.reply(event.id, RECORDED_REPLY);
    assert_eq!(asked.join().unwrap().status, 200);
    server.wait_log(&["original: connected from"]);

    converse(&mut original, server.http(), "/client/original/", "server");

    // What HTTP cannot carry is left out, and told.
    let asked = asking(server.http(), "GET", "/client/original/price", b"");
    let event = original.frame_of(EVENT);
    let reply = message::reply(event.id, "text/plain; currency=\u{20ac}", 0, b"5");
    original.peer.send(&reply).unwrap();
    let answer = asked.join().unwrap();
    assert_eq!((answer.status, answer.text(), answer.header("Content-Type")), (200, "5", None));
    server.wait_log(&["original: the media type of its reply cannot be sent", "currency=\u{20ac}"]);

    // Its first heartbeat comes after five seconds, and then every five.
    for beat in 1..=2 {
        let due = original.peer.connected + Duration::from_secs(5 * beat);
        let pause = due.saturating_duration_since(Instant::now());
        assert_eq!(original.peer.frame_within(pause), None, "unasked");
        let id = original.ask(HEARTBEAT, &[8, 1]);
        let answer = original.frame();
        assert_eq!((answer.kind, answer.id), (HEARTBEAT_REPLY, id));
    }
    crowd(&mut original, server.http(), "/client/original/time");
    assert_eq!(original.peer.silent_records(), 0, "a session ticket, say");

    let before = server.log().len();
    original.peer.close().unwrap();
    assert_eq!(original.peer.wait_end(), Ended::Properly);
    server.wait_log_from(before, &["original: lost", "closed by the peer"]);
}

#[test]
fn an_original_client_that_falls_silent_is_closed_after_ten_seconds() {
    let identities = Identities::new(&[]);
    let server = server(&identities).start();
    let mut original = Original::dial(&identities, server.pipe());
    // A silent peer gets no goodbye that would delay the stop.
    original.peer.wait_end();
    let lived = original.peer.connected.elapsed();
    assert!((9900..15_000).contains(&lived.as_millis()), "closed after {lived:?}");
    server.wait_log(&["original: lost", "no bytes received for 10.0 s"]);
}

#[test]
fn an_original_server_is_asked_and_answered() {
    let identities = Identities::new(&["client-1"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(&identities, "client-1", listener.local_addr().unwrap())
        .set("RP_CLIENT_HEARTBEAT_INTERVAL_S", "1")
        .set("RP_CLIENT_HEARTBEAT_TIMEOUT_S", "3")
        .start();
    let mut original = Original::accept(&identities, &listener);
    // The first heartbeat comes at once. It is answered only after the second, as by a slow server.
    let first = original.frame();
    assert_eq!(first.kind, HEARTBEAT);
    assert!(original.peer.connected.elapsed() < Duration::from_millis(900));
    let second = original.frame();
    assert_eq!(second.kind, HEARTBEAT);
    assert_ne!(first.id, second.id);
    for id in [first.id, second.id] {
        original.peer.send(&heartbeat_reply(id)).unwrap();
    }
    client.wait_log(&["localhost: connected to"]);

    converse(&mut original, client.http(), "/server/", "client");

    // It disconnects as an original does: without close_notify. The client reconnects.
    let before = client.log().len();
    drop(original);
    client.wait_log_from(before, &["lost"]);
    let mut original = Original::accept(&identities, &listener);
    let asked = asking(client.http(), "GET", "/server/time", b"");
    let heartbeat = original.frame();
    original.peer.send(&heartbeat_reply(heartbeat.id)).unwrap();
    let event = original.frame_of(EVENT);
    original.reply(event.id, RECORDED_REPLY);
    assert_eq!(asked.join().unwrap().status, 200);
}

#[test]
fn a_reply_that_an_original_cannot_read_is_not_sent() {
    let identities = Identities::new(&[]);
    let handler = Router::new()
        .on("get_bytes", |_, _| Ok(Reply::new("application/octet-stream", vec![0, 0x80, 0xff])))
        .on("get_type", |_, _| Ok(Reply::new("text/caf\u{e9}", "x")))
        .on("get_teapot", |_, _| {
            let mut reply = Reply::new("text/plain", "tea");
            reply.status = Some(418);
            reply.headers.push(("X-Tea".to_owned(), "green".to_owned()));
            Ok(reply)
        });
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = ServerConfig::new(IdentityFiles::issued(identities.path(""), "localhost"));
    config.pipe_bind = any;
    config.node.http_bind = Bind::Tcp(any);
    config.node.statsd = None;
    let server = Server::start(&config, Arc::new(handler)).unwrap();
    let mut original = Original::dial(&identities, server.pipe_address());

    for noun in ["bytes", "type"] {
        let body = format!("\x08\x01\x12\x03get\x1a{}{noun}", char::from(noun.len() as u8));
        let id = original.ask(EVENT, body.as_bytes());
        let reply = original.frame();
        assert_eq!((reply.kind, reply.id), (REPLY, id));
        let start = b"\x08\x01\x12\x10application/json\x18\xfb\x01";
        assert!(reply.body.starts_with(start), "{:?}", String::from_utf8_lossy(&reply.body));
        assert!(String::from_utf8_lossy(&reply.body).contains("original RestPipe cannot take"));
    }
    // Data that only an extension can carry is omitted.
    original.ask(EVENT, b"\x08\x01\x12\x03get\x1a\x06teapot");
    assert_eq!(original.frame().body, b"\x08\x01\x12\x0atext/plain\x18\x00\x22\x03tea");
    server.stop(Duration::from_secs(1));
}

/// The original dies of a message that it did not request.
#[test]
fn an_original_peer_is_not_told_that_a_node_stops() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).serve(Router::new());
    let mut original = Original::dial(&identities, server.pipe());
    original.ask(HEARTBEAT, &[8, 1]);
    original.frame_of(HEARTBEAT_REPLY);
    let stopping = thread::spawn(move || server.stop(Duration::from_secs(5)));
    let frame = original.peer.frame_within(support::PATIENCE);
    assert!(frame.is_none(), "it was told {frame:02x?}");
    assert_eq!(original.peer.wait_end(), Ended::Properly);
    stopping.join().unwrap();
}
