//! `rp_remoted publish` against a broker played by the test, with the recorded bytes.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Node;
use crate::support::broker::{Broker, ID, KEY, Visitor, field, frame, remoted, text_frame};
use crate::support::port::{accept, free_address};

/// A path published at a broker, and the local server behind it.
struct Scene {
    broker: Broker,
    node: Node,
    control: Visitor,
    target: TcpListener,
}

impl Scene {
    fn new(more: &[&str]) -> Self {
        let broker = Broker::new();
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = target.local_addr().unwrap().to_string();
        let url = broker.url("rws", "/test/path/");
        let mut arguments = vec!["publish", &url, "--to", &to];
        arguments.extend_from_slice(more);
        let mut command = remoted(&arguments);
        command.env("DEBUG", "1");
        let node = Node::launch(command);
        let control = broker.accept_registration("/test/path/");
        assert_eq!(node.next_line(), "ready published=/test/path/");
        Self { broker, node, control, target }
    }

    /// Sends the notice of a caller, and accepts the server's WebRoute for it.
    fn call(&mut self, id: &str) -> (Visitor, String) {
        self.control.notify(id);
        let mut link = self.broker.accept();
        let head = link.head();
        (link, head)
    }

    fn target(&self) -> Visitor {
        Visitor::from(accept(&self.target))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let log = self.node.log();
        assert!(!log.iter().any(|line| line.contains(KEY)), "the key is in {log:#?}");
    }
}

#[test]
fn a_path_is_registered_with_the_recorded_bytes() {
    let broker = Broker::new();
    let url = broker.url("rws", "/test/path/");
    let node = Node::launch(remoted(&["publish", &url, "--to", "127.0.0.1:9"]));
    let mut control = broker.accept();
    let head = control.head();
    let (address, nonce) = (broker.address(), field(&head, "Sec-WebSocket-Key").to_owned());
    assert_eq!(nonce.len(), 24);
    assert_eq!(
        head,
        format!(
            "GET /test/path/ HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nOrigin: http://{address}\r\nSec-WebSocket-Key: {nonce}\r\n\
             Sec-WebSocket-Version: 13\r\nX-Remoted-APIKey: {KEY}\r\n\r\n"
        )
    );
    control.says_nothing();
    control.welcome_websocket(&head);
    assert_eq!(node.next_line(), "ready published=/test/path/");
}

#[test]
fn a_caller_is_joined_to_the_server() {
    let mut scene = Scene::new(&[]);
    let (mut link, head) = scene.call(ID);
    assert_eq!(
        head,
        format!(
            "GET /test/path/ HTTP/1.1\r\nHost: {}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: webroute\r\nWebRoute-Version: 1\r\nWebRoute-ID: {ID}\r\n\
             WebRoute-Timeout: 60\r\nRP-Early-Bytes: kept\r\nX-Remoted-APIKey: {KEY}\r\n\r\n",
            scene.broker.address()
        )
    );
    // The server is dialled before the broker has answered, and its first bytes wait.
    let mut server = scene.target();
    server.write("banner");
    link.says_nothing();
    link.welcome_webroute(&head, "early");
    assert_eq!(server.read(5), b"early");
    assert_eq!(link.read(6), b"banner");
    // Half-close either way.
    link.write("question");
    link.ends_writing();
    assert_eq!(server.read_to_end(), b"question");
    server.write("answer");
    drop(server);
    assert_eq!(link.read_to_end(), b"answer");
}

#[test]
fn a_reset_of_either_side_reaches_the_other() {
    let mut scene = Scene::new(&[]);
    let mut joined = |id| {
        let (mut link, head) = scene.call(id);
        let mut server = scene.target();
        link.welcome_webroute(&head, "x");
        assert_eq!(server.read(1), b"x");
        (link, server)
    };
    let (link, mut server) = joined("one");
    link.reset();
    let error = std::io::Read::read(&mut server.socket, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (mut link, server) = joined("two");
    server.reset();
    let error = std::io::Read::read(&mut link.socket, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_caller_that_is_not_joined_is_no_empty_connection_for_the_server() {
    let mut scene = Scene::new(&[]);
    let (mut link, _) = scene.call("gone");
    let mut server = scene.target();
    link.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let error = std::io::Read::read(&mut server.socket, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    scene.node.wait_log(&["WARN", "192.0.2.7:32828", "the caller did not wait (400)"]);

    // Nor is one whose program is killed before.
    let (_link, _) = scene.call("waits");
    let mut server = scene.target();
    // It says more only once it is joined.
    server.says_nothing();
    scene.node.signal("KILL");
    let error = std::io::Read::read(&mut server.socket, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_caller_of_a_dead_server_is_closed_with_one_line() {
    let mut scene = Scene::new(&[]);
    let gone =
        std::mem::replace(&mut scene.target, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let address = gone.local_addr().unwrap();
    drop(gone);
    let start = Instant::now();
    let (mut link, head) = scene.call(ID);
    link.welcome_webroute(&head, "");
    link.waits_for_end();
    assert!(start.elapsed() < Duration::from_secs(15));
    let line = scene.node.wait_log(&["WARN", "192.0.2.7:32828", "/test/path/", "not served"]);
    assert!(line.contains(&address.to_string()) && line.contains("refused"), "{line}");
    let lines = scene.node.log().iter().filter(|line| line.contains("not served")).count();
    assert_eq!(lines, 1);
}

#[test]
fn the_servers_unix_socket_is_told_of_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.sock");
    let server = UnixListener::bind(&path).unwrap();
    let broker = Broker::new();
    let url = broker.url("rws", "/u");
    let to = format!("unix:{}", path.display());
    let _node = Node::launch(remoted(&["publish", &url, "--to", &to, "--proxy-protocol"]));
    let mut control = broker.accept_registration("/u");
    control.notify(ID);
    let mut link = broker.accept();
    let head = link.head();
    link.welcome_webroute(&head, "hello");
    let (mut near, _) = server.accept().unwrap();
    let port = broker.address().port();
    let expected = format!("PROXY TCP4 192.0.2.7 127.0.0.1 32828 {port}\r\nhello");
    let mut bytes = vec![0; expected.len()];
    std::io::Read::read_exact(&mut near, &mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn pings_are_answered_and_the_path_is_given_back_at_the_end() {
    let mut scene = Scene::new(&[]);
    scene.control.write(frame(0x89, b"1795158476"));
    // Masked (RFC 6455, section 5.3): two bytes, the mask, the payload.
    let pong = scene.control.read(2 + 4 + 10);
    assert_eq!(pong[..2], [0x8a, 0x80 | 10]);
    let unmasked: Vec<u8> =
        pong[6..].iter().enumerate().map(|(at, byte)| byte ^ pong[2 + at % 4]).collect();
    assert_eq!(unmasked, b"1795158476");
    scene.node.signal("TERM");
    let end = scene.control.read_to_end();
    assert_eq!(end.first(), Some(&0x88), "a close frame: {end:?}");
    assert!(scene.node.wait_exit().success());
}

#[test]
fn it_comes_back_whatever_ends_the_registration() {
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(1 << 20));
    let ends: [(&[u8], &str); 7] = [
        (&text_frame(b"no json"), "the broker sent a message that is no JSON"),
        (
            &text_frame(long.as_bytes()),
            "the peer broke the protocol: Message too long: 1048585 > 131072 (code 1009)",
        ),
        (&frame(0x82, b"binary"), "the broker sent a binary message"),
        (&[0x81, 0x81, 0, 0, 0, 0, b'x'], "Received a masked frame from server (code 1002)"),
        (&[0xff; 64], "Encountered invalid opcode: 15 (code 1002)"),
        (&frame(0x88, b"\x03\xe9bye"), "the peer closed the connection: bye"),
        (b"", "the peer closed the connection without a close frame"),
    ];
    // All at once, since each waits before it registers again.
    thread::scope(|scope| {
        for (bytes, reason) in ends {
            scope.spawn(move || {
                let mut scene = Scene::new(&[]);
                // It may disconnect before it has read all of a megabyte.
                let _ = scene.control.socket.write_all(bytes);
                if bytes.is_empty() {
                    scene.control.ends_writing();
                }
                scene.node.wait_log(&["WARN", "the registration is lost", reason]);
                scene.control = scene.broker.accept_registration("/test/path/");
                // It still serves.
                let (mut link, head) = scene.call(ID);
                link.welcome_webroute(&head, "x");
                assert_eq!(scene.target().read(1), b"x");
            });
        }
    });
}

#[test]
fn a_notice_may_come_in_pieces() {
    let mut scene = Scene::new(&[]);
    // Two fragments (RFC 6455, section 5.4), a ping between them, single bytes.
    let fragments = [
        frame(0x01, br#"{"ipaddr":"192.0.2.7:1","#),
        frame(0x89, b""),
        frame(0x80, br#""id":"pieces","timeout":60}"#),
    ];
    for byte in fragments.concat() {
        scene.control.write([byte]);
    }
    let mut link = scene.broker.accept();
    assert_eq!(field(&link.head(), "WebRoute-ID"), "pieces");
}

#[test]
fn an_id_that_cannot_be_sent_costs_only_its_caller() {
    let mut scene = Scene::new(&[]);
    for id in ["a b", "a\\r\\nX-Evil: 1", &"x".repeat(100_000)] {
        scene.control.notify(id);
    }
    scene.node.wait_log(&["WARN", "a caller is not served: it has an id that no header can carry"]);
    let (link, head) = scene.call("good");
    assert_eq!(field(&head, "WebRoute-ID"), "good");
    drop(link);
}

#[test]
fn refusals_are_told_in_words_and_tried_again() {
    let broker = Broker::new();
    let url = broker.url("rws", "/p");
    let node = Node::launch(remoted(&["publish", &url, "--to", "127.0.0.1:9"]));
    let json = |status: &str, error: &str| {
        let body = format!(r#"{{"success":false,"error":"{error}","errorcode":"x"}}"#);
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for (answer, reason) in [
        (
            json("403 Forbidden", "Invalid or missing 'X-Remoted-APIKey' header."),
            "not registered: the broker does not take this key here (403)",
        ),
        (
            json("400 Bad Request", "Invalid request.  Expected WebSocket or WebRoute upgrade."),
            "(400: Invalid request.  Expected WebSocket or WebRoute upgrade.); another server may \
             hold the path",
        ),
        ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n".to_owned(), "what answers is no broker"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), "the broker's answer: the head cannot be read"),
        (String::new(), "the broker closed the connection without an answer"),
    ] {
        let seen = node.log().len();
        let mut visitor = broker.accept();
        visitor.head();
        visitor.write(answer);
        drop(visitor);
        let line = node.wait_log_from(seen, &["WARN", reason]);
        assert!(!line.contains(KEY), "{line}");
    }
    let _control = broker.accept_registration("/p");
    assert_eq!(node.next_line(), "ready published=/p");
}

#[test]
fn callers_beyond_the_bound_are_turned_away() {
    let mut scene = Scene::new(&["--max-connections", "2"]);
    let joined: Vec<_> = ["a", "b"]
        .map(|id| {
            let (mut link, head) = scene.call(id);
            let mut server = scene.target();
            link.welcome_webroute(&head, "x");
            assert_eq!(server.read(1), b"x");
            (link, server)
        })
        .into_iter()
        .collect();
    let (mut link, head) = scene.call("c");
    link.welcome_webroute(&head, "");
    link.waits_for_end();
    scene.node.wait_log(&["WARN", "192.0.2.7:32828 is refused: all places"]);
    drop(joined);
}

#[test]
fn a_flood_of_callers_costs_bounded_memory() {
    let mut scene = Scene::new(&["--max-connections", "20"]);
    let one =
        text_frame(format!(r#"{{"ipaddr":"192.0.2.7:1","id":"{ID}","timeout":60}}"#).as_bytes());
    for _ in 0..100 {
        scene.control.write(one.repeat(100));
    }
    // A ping is answered after all that came before it.
    scene.control.write(frame(0x89, b""));
    assert_eq!(scene.control.read(1), [0x8a]);
    let threads = scene.node.status_number("Threads");
    assert!(threads < 120, "{threads} threads");
    let kilobytes = scene.node.status_number("VmRSS");
    assert!(kilobytes < 60_000, "{kilobytes} kB");
}

#[test]
fn several_paths_come_from_the_command_line_and_a_file() {
    let broker = Broker::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("paths");
    let (one, two) = (broker.url("rws", "/one"), broker.url("rws", "/two"));
    std::fs::write(&file, format!("# paths\n\n{two}\t127.0.0.1:9\n")).unwrap();
    let arguments = ["publish", &one, "--to", "127.0.0.1:9", "--from", file.to_str().unwrap()];
    let node = Node::launch(remoted(&arguments));
    let mut controls = Vec::new();
    for _ in 0..2 {
        let mut control = broker.accept();
        let head = control.head();
        control.welcome_websocket(&head);
        controls.push(control);
    }
    let mut lines = [node.next_line(), node.next_line()];
    lines.sort();
    assert_eq!(lines, ["ready published=/one", "ready published=/two"]);
}

#[test]
fn keys_from_elsewhere_are_in_no_process_list_and_no_log() {
    let broker = Broker::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let url = format!("rws://{}/p", broker.address());
    let from_file =
        remoted(&["publish", &url, "--to", "a:1", "--key-file", file.to_str().unwrap()]);
    let mut from_environment = remoted(&["publish", &url, "--to", "a:1"]);
    from_environment.env("RP_REMOTED_APIKEY", KEY);
    for command in [from_file, from_environment] {
        let node = Node::launch(command);
        let mut control = broker.accept();
        let head = control.head();
        assert_eq!(field(&head, "X-Remoted-APIKey"), KEY);
        let line = std::fs::read(format!("/proc/{}/cmdline", node.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&line).contains(KEY));
        control.welcome_websocket(&head);
        node.next_line();
        assert!(!node.log().concat().contains(KEY), "{:#?}", node.log());
    }
}

#[test]
fn wrong_usage_is_one_line_without_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("paths");
    std::fs::write(&file, format!("rws://{KEY}@h/p a:1\nrws://{KEY}@h/p\n")).unwrap();
    let from = file.to_str().unwrap();
    let url = format!("rws://{KEY}@h/p");
    let bad = format!("rws://{KEY}@h:x/p");
    let caller = format!("rwr://{KEY}@h/p");
    let cases: [(&[&str], &str); 9] = [
        (&[], "URL is missing"),
        (&[&url], "each URL needs a --to TARGET"),
        (&[&url, "--to", "a:1", "--to", "b:2"], "each URL needs a --to TARGET"),
        (&[&url, "--to", "nowhere"], "--to \"nowhere\": HOST:PORT"),
        (&[&bad, "--to", "a:1"], "URL 1: the port is no number"),
        (&[&caller, "--to", "a:1"], "what is published begins with rws"),
        (&["rws://h/p", "--to", "a:1"], "rws://h/p: there is no key for it"),
        (&["--from", from], "line 2: a path is published as an address and a target"),
        (&[&url, "--to", "a:1", "--pin", "x"], "--pin \"x\": a SHA-256 is 64 hexadecimal digits"),
    ];
    for (arguments, message) in cases {
        let output = remoted(&[&["publish"], arguments].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(message) && text.lines().count() == 1, "{arguments:?}: {text}");
        assert!(!text.contains(KEY), "{text}");
    }
}

#[test]
fn the_broker_may_be_away_at_first() {
    let address = free_address();
    let url = format!("rws://{KEY}@{address}/p");
    let node = Node::launch(remoted(&["publish", &url, "--to", "127.0.0.1:9"]));
    node.wait_log(&["WARN", "not registered", &format!("{address}: Connection refused")]);
}
