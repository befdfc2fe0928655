//! The program as an operator sees it: startup, keys, signals, the log, TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::scene::{Ends, Keys, Wire, entry, webroute, websocket};
use crate::support::alone::alone;
use crate::support::{Identities, Node, PATIENCE};

const PATH: &str = "/test/path/";

/// A broker with these keys, as a process.
pub fn command(keys: &Keys) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rp_remoted"));
    command.arg("broker").env_clear();
    command.env("RP_REMOTED_BIND", "127.0.0.1:0").env("RP_REMOTED_CONFIG", keys.file());
    command
}

pub fn ends<'a>(node: &Node, keys: &'a Keys) -> Ends<'a> {
    Ends { address: node.ready("remoted").parse().unwrap(), keys }
}

#[test]
fn keys_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rp_remoted"));
        command.arg("keys").arg(&file).env_clear().output().unwrap()
    };
    let made = run();
    assert!(made.status.success(), "{made:?}");
    assert_eq!(String::from_utf8(made.stdout).unwrap(), format!("keys  {}\n", file.display()));
    let content = std::fs::read(&file).unwrap();
    let again = run();
    assert_eq!(again.status.code(), Some(1));
    let error = String::from_utf8(again.stderr).unwrap();
    assert!(error.ends_with("is there already, and no key is overwritten\n"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), content);
}

#[test]
fn a_broker_without_usable_keys_says_so_and_does_not_start() {
    let keys = Keys::new();
    let fails = |expected: &str| {
        let output = command(&keys).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
    };
    std::fs::write(keys.file(), r#"{"server_apikey": ["SECRET"]}"#).unwrap();
    fails("server_apikey is not a text");
    std::fs::remove_file(keys.file()).unwrap();
    fails("`rp_remoted keys FILE` makes one");
}

#[test]
fn a_stopped_broker_lets_the_joined_finish() {
    let keys = Keys::new();
    let mut node = Node::start(command(&keys));
    let ends = ends(&node, &keys);
    let mut server = ends.register(PATH);
    let (mut caller, mut joined) = ends.joined(PATH, "joined");
    let mut waiting = ends.call(PATH, "waiting");
    server.notice();
    server.notice();
    node.signal("TERM");
    // The server gets a close frame, waiting callers are not served, and nobody else is admitted.
    let (first, payload) = server.frame();
    assert_eq!((first, &payload[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
    assert_eq!(waiting.rest(), b"");
    node.wait_log(&["stopping after SIGTERM"]);
    caller.send("the rest");
    assert_eq!(joined.read(8), b"the rest");
    assert!(node.runs());
    drop(caller);
    assert_eq!(joined.rest(), b"");
    drop(joined);
    assert_eq!(node.wait_exit().code(), Some(0));
}

#[test]
fn what_is_joined_does_not_keep_a_broker_from_stopping_for_ever() {
    let keys = Keys::new();
    let mut command = command(&keys);
    let mut node = Node::start({
        command.env("RP_DRAIN_S", "0.2");
        command
    });
    let ends = ends(&node, &keys);
    let _server = ends.register(PATH);
    let (mut caller, _joined) = ends.joined(PATH, "joined");
    node.signal("TERM");
    node.wait_log(&["cut 1 joined connections"]);
    assert_eq!(node.wait_exit().code(), Some(0));
    assert!(caller.is_over());
}

#[test]
fn a_key_that_is_gone_ends_what_it_was_good_for_and_a_bad_file_changes_nothing() {
    let keys = Keys::new();
    let gone = [
        entry("old server", "server", "/old/*", "old-server-key"),
        entry("old caller", "client", "*", "old-caller-key"),
    ];
    keys.write(&gone);
    let node = Node::start(command(&keys));
    let ends = ends(&node, &keys);
    let register = |path: &str, key: &str| {
        let mut server = Wire::connect(ends.address);
        server.send(websocket(path, key));
        server
    };
    let mut old = register("/old/1", "old-server-key");
    assert!(old.head().contains(" 101 "));
    // A key is valid only for its own paths.
    assert!(register("/new", "old-server-key").answer().0.starts_with("HTTP/1.1 403 "));
    let mut stays = ends.register(PATH);
    let mut waits_for_old = ends.call("/old/1", "a");
    let mut with_old_key = Wire::connect(ends.address);
    with_old_key.send(webroute(PATH, "b", "old-caller-key"));
    let mut waits = ends.call(PATH, "c");
    old.notice();
    stays.notice();
    stays.notice();

    std::fs::write(keys.file(), "{ SECRET").unwrap();
    node.signal("HUP");
    let line = node.wait_log(&["ERROR", "the old keys stay: "]);
    assert!(!line.contains("SECRET"), "{line}");
    let _caller = ends.call("/old/1", "d");
    assert_eq!(old.notice()["id"], "d");

    keys.write(&[]);
    node.signal("HUP");
    node.wait_log(&["2 keys in effect; 1 registrations and 3 waiting callers ended"]);
    let (first, payload) = old.frame();
    assert_eq!((first, &payload[..2]), (0x88, &1008_u16.to_be_bytes()[..]));
    assert_eq!((waits_for_old.rest(), with_old_key.rest()), (Vec::new(), Vec::new()));
    assert!(register("/old/1", "old-server-key").answer().0.starts_with("HTTP/1.1 403 "));
    // All others are unaffected.
    let mut joined = ends.join(PATH, "c");
    assert!(joined.head().contains(" 101 ") && waits.head().contains(" 101 "));
}

#[test]
fn the_log_has_a_line_with_the_reason_for_each_and_never_a_key() {
    let keys = Keys::new();
    let mut command = command(&keys);
    command.env("DEBUG", "1");
    let node = Node::start(command);
    let ends = ends(&node, &keys);
    let expect = |what: &str, address: std::net::SocketAddr, reason: &str| {
        let line = node.wait_log(&["WARN", &address.to_string(), reason]);
        assert!(line.contains(what), "{line}");
    };
    let mut caller = ends.call("/nobody\u{1b}[2J", "x");
    let from = caller.socket.local_addr().unwrap();
    caller.some();
    // Such a character is not valid in an HTTP path.
    expect("refused", from, "the head cannot be read");

    let mut server = ends.register(PATH);
    let name = server.socket.local_addr().unwrap();
    node.wait_log(&["INFO", &format!("server {name}: registered {PATH} with key server_apikey")]);
    let waiting = ends.call(PATH, "left");
    let from = waiting.socket.local_addr().unwrap();
    server.notice();
    drop(waiting);
    expect("caller", from, "left /test/path/ before its server came");
    let waiting = ends.call(PATH, "alone");
    let from = waiting.socket.local_addr().unwrap();
    server.notice();
    drop(server);
    expect("caller", from, "its server left");
    node.wait_log(&[
        "INFO",
        &format!("server {name}: {PATH} is free: the peer closed the connection"),
    ]);
    let log = node.log().join("\n");
    for key in [&keys.server, &keys.client] {
        assert!(!log.contains(&key[..16]), "{log}");
    }
    assert!(!log.contains('\u{1b}'));
}

/// A refusal is logged if nothing else from this address was refused recently.
#[test]
fn a_wrong_key_and_an_unknown_path_are_told_apart_in_the_log() {
    for (path, wrong, reason) in [
        ("/nobody", false, "refused on /nobody: nobody is registered there"),
        (PATH, true, "refused on /test/path/: its key is none of ours"),
    ] {
        let keys = Keys::new();
        let node = Node::start(command(&keys));
        let ends = ends(&node, &keys);
        let begun = Instant::now();
        let mut caller = Wire::connect(ends.address);
        let key = if wrong { "wrong-key" } else { &keys.client };
        caller.send(webroute(path, "x", key));
        let line = node.wait_log(&["WARN", reason]);
        assert!(line.contains(&caller.socket.local_addr().unwrap().to_string()), "{line}");
        assert!(!line.contains("wrong-key"), "{line}");
        assert!(caller.answer().0.contains("keep-alive"));
        // Stays open for another attempt, but no longer than that.
        caller.end();
        assert!(caller.is_over() && begun.elapsed() < Duration::from_secs(15));
    }
}

/// Each refusal is new: another path, on one connection or from other addresses.
#[test]
fn those_without_a_key_have_one_budget_of_lines_and_a_new_cause_is_still_seen() {
    const REFUSED: usize = 150;
    let keys = Keys::new();
    let mut node = Node::start(command(&keys));
    let ends = ends(&node, &keys);
    for at in 0..REFUSED {
        let own = std::net::Ipv4Addr::new(127, 0, 1, at as u8);
        let mut caller = Wire::connect_from(own.into(), ends.address);
        caller.send(webroute(&format!("/none/{at}"), "x", "wrong-key"));
        caller.answer();
    }
    let mut odd = Wire::connect(ends.address);
    odd.send("no HTTP\r\n\r\n");
    odd.answer();
    node.wait_log(&["WARN", "127.0.0.1:", "refused: "]);
    let refused =
        |node: &Node| node.log().iter().filter(|line| line.contains("refused on /none/")).count();
    // Perhaps a minute ended on the way.
    assert!(refused(&node) <= 42, "{:#?}", node.log());
    node.signal("TERM");
    assert!(node.wait_exit().success());
    let left_out = REFUSED - refused(&node);
    node.wait_log(&["broker: ", " more lines of the last minute about ", "wrong key: "]);
    let counts = node.log().into_iter().filter_map(|line| {
        let (_, count) = line.split_once("wrong key: ")?;
        count.trim_end_matches(')').parse::<usize>().ok()
    });
    assert_eq!(counts.sum::<usize>(), left_out, "{:#?}", node.log());
}

/// A connection to the broker through OpenSSL.
struct OpenSsl {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl OpenSsl {
    fn connect(identities: &Identities, address: std::net::SocketAddr) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost"])
            .arg("-CAfile")
            .arg(identities.path("ca.crt.pem"))
            .args(["-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.child.stdin.as_mut().unwrap().write_all(bytes.as_ref()).unwrap();
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.output.read_line(&mut head).unwrap() > 0, "the end after {head}");
        }
        head
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.output.read_exact(&mut bytes).unwrap();
        bytes
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker that speaks TLS as `localhost`.
fn over_tls(keys: &Keys, identities: &Identities) -> Node {
    over_tls_with(keys, identities, &[])
}

/// The same with these settings.
fn over_tls_with(keys: &Keys, identities: &Identities, environment: &[(&str, &str)]) -> Node {
    let mut command = command(keys);
    command.envs(environment.iter().copied());
    command.env("RP_REMOTED_CRT", identities.path("localhost.crt.pem"));
    command.env("RP_REMOTED_KEY", identities.path("localhost.key.pem"));
    Node::start(command)
}

#[test]
fn it_speaks_tls_by_itself() {
    let identities = Identities::new(&[]);
    let keys = Keys::new();
    let node = over_tls(&keys, &identities);
    let address = ends(&node, &keys).address;
    let connect = || OpenSsl::connect(&identities, address);

    let mut server = connect();
    server.send(websocket(PATH, &keys.server));
    assert!(server.head().starts_with("HTTP/1.1 101 "));
    let mut caller = connect();
    caller.send(webroute(PATH, "tls", &keys.client));
    let frame = server.read(2);
    assert_eq!(frame[0], 0x81);
    let notice: serde_json::Value =
        serde_json::from_slice(&server.read(usize::from(frame[1]))).unwrap();
    assert_eq!(notice["id"], "tls");
    let mut joined = connect();
    joined.send(webroute(PATH, "tls", &keys.server));
    assert!(joined.head().starts_with("HTTP/1.1 101 "));
    assert!(caller.head().starts_with("HTTP/1.1 101 "));
    // More than one record, both ways.
    let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at / 3) as u8).collect();
    caller.send(&bytes);
    assert!(joined.read(bytes.len()) == bytes);
    joined.send(&bytes);
    assert!(caller.read(bytes.len()) == bytes);
    drop(joined);
    assert_eq!(caller.output.read(&mut [0]).unwrap(), 0);

    // Anything but TLS is closed with a log line.
    let mut plain = Wire::connect(address);
    plain.send("GET / HTTP/1.1\r\n\r\n");
    assert!(plain.is_over());
    node.wait_log(&["WARN", "no TLS"]);
    let until = Instant::now() + PATIENCE;
    drop(server);
    while !{
        let mut again = connect();
        again.send(webroute(PATH, "x", &keys.client));
        again.output.fill_buf().unwrap().starts_with(b"HTTP/1.1 502 ")
    } {
        assert!(Instant::now() < until);
    }
}

#[test]
fn a_thousand_joined_and_silent_connections_are_small() {
    if !alone("broker::operation::a_thousand_joined_and_silent_connections_are_small", 4096) {
        return;
    }
    const PAIRS: usize = 1000;
    let keys = Keys::new();
    let node = Node::start(command(&keys));
    let ends = ends(&node, &keys);
    let mut server = ends.register(PATH);
    let mut pair = |number: usize| {
        let id = format!("pair-{number}");
        let mut caller = ends.call(PATH, &id);
        server.notice();
        let mut joined = ends.join(PATH, &id);
        joined.head();
        caller.head();
        // Each has carried bytes, both ways.
        caller.send([7; 10_000]);
        joined.read(10_000);
        joined.send([8; 10_000]);
        caller.read(10_000);
        (caller, joined)
    };
    let warm: Vec<_> = (PAIRS..PAIRS + 20).map(&mut pair).collect();
    let before = node.status_number("VmRSS");
    let pairs: Vec<_> = (0..PAIRS).map(&mut pair).collect();
    let each = (node.status_number("VmRSS") - before) as f64 / pairs.len() as f64;
    assert!(each < 64.0, "{each} KiB each");
    println!("{each:.1} KiB each");
    drop(warm);
}

#[test]
fn over_tls_they_are_small_too() {
    if !alone("broker::operation::over_tls_they_are_small_too", 4096) {
        return;
    }
    use restpipe::remoted::head::read_answer;
    use restpipe::remoted::stream::Stream;

    const PAIRS: usize = 200;
    let identities = Identities::new(&[]);
    let keys = Keys::new();
    let node = over_tls(&keys, &identities);
    let address = ends(&node, &keys).address;
    let config = crate::support::tls::dialing(None);
    let soon = || Instant::now() + PATIENCE;
    let connect = |request: String| {
        let under = Stream::socket(std::net::TcpStream::connect(address).unwrap()).unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = Stream::tls_client(under, config.clone(), name, soon()).unwrap();
        stream.write_all_within(request.as_bytes(), soon()).unwrap();
        stream
    };
    let mut server = connect(websocket(PATH, &keys.server));
    read_answer(&mut server, soon()).unwrap();
    let carry = |from: &mut Stream, to: &mut Stream| {
        from.write_all_within(&[7; 10_000], soon()).unwrap();
        let (mut seen, mut buffer) = (0, [0; 4096]);
        while seen < 10_000 {
            let count = to.read_within(&mut buffer, soon()).unwrap();
            assert!(count > 0 && buffer[..count].iter().all(|byte| *byte == 7));
            seen += count;
        }
    };
    let pair = |number: usize| {
        let id = format!("pair-{number}");
        let mut caller = connect(webroute(PATH, &id, &keys.client));
        let mut joined = loop {
            let request = webroute(PATH, &id, &keys.server);
            let mut joined =
                connect(request.replace("X-Remoted", "RP-Early-Bytes: kept\r\nX-Remoted"));
            match read_answer(&mut joined, soon()).unwrap().status {
                101 => break joined,
                status => assert_eq!(status, 400),
            }
        };
        assert_eq!(read_answer(&mut caller, soon()).unwrap().status, 101);
        carry(&mut caller, &mut joined);
        carry(&mut joined, &mut caller);
        (caller, joined)
    };
    let warm: Vec<_> = (PAIRS..PAIRS + 20).map(pair).collect();
    let before = node.status_number("VmRSS");
    let pairs: Vec<_> = (0..PAIRS).map(pair).collect();
    let each = (node.status_number("VmRSS") - before) as f64 / pairs.len() as f64;
    assert!(each < 64.0, "{each} KiB each");
    println!("{each:.1} KiB each over TLS");
    drop(warm);
}

/// A peer that ends TLS without saying so, as anybody on the path could make it seem.
#[test]
fn tls_that_is_cut_is_no_regular_end_unless_the_operator_says_so() {
    use restpipe::remoted::head::read_answer;
    use restpipe::remoted::stream::Stream;
    use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};

    let identities = Identities::new(&[]);
    let keys = Keys::new();
    let soon = || Instant::now() + PATIENCE;
    for (setting, is_end) in [("0", false), ("1", true)] {
        let environment = [("RP_REMOTED_ORIGINAL_PEERS", setting)];
        let node = over_tls_with(&keys, &identities, &environment);
        let address = ends(&node, &keys).address;
        let connect = |request: String| {
            let socket = std::net::TcpStream::connect(address).unwrap();
            let below = socket.try_clone().unwrap();
            let (config, name) = (crate::support::tls::dialing(None), "localhost".try_into());
            let under = Stream::socket(socket).unwrap();
            let mut stream = Stream::tls_client(under, config, name.unwrap(), soon()).unwrap();
            stream.write_all_within(request.as_bytes(), soon()).unwrap();
            (stream, below)
        };
        let (mut server, _below) = connect(websocket(PATH, &keys.server));
        assert_eq!(read_answer(&mut server, soon()).unwrap().status, 101);
        let (mut caller, below) = connect(webroute(PATH, "cut", &keys.client));
        let mut notice = [0; 1];
        server.read_within(&mut notice, soon()).unwrap();
        let (mut joined, _below) = connect(webroute(PATH, "cut", &keys.server));
        for end in [&mut caller, &mut joined] {
            assert_eq!(read_answer(end, soon()).unwrap().status, 101);
        }
        // So that the first bytes of the caller need not wait.
        joined.write_all_within(b"x", soon()).unwrap();
        caller.write_all_within(b"half", soon()).unwrap();
        let mut seen = [0; 8];
        let mut count = 0;
        while count < 4 {
            count += joined.read_within(&mut seen[count..], soon()).unwrap();
        }
        below.shutdown(std::net::Shutdown::Write).unwrap();
        match joined.read_within(&mut seen, soon()) {
            Ok(0) => assert!(is_end, "it seems to have ended"),
            Err(error) => {
                assert!(
                    !is_end && matches!(error.kind(), ConnectionReset | UnexpectedEof),
                    "{error}"
                );
            }
            Ok(count) => panic!("{count} more bytes"),
        }
    }
}
