//! What the programs say of common mistakes: what is wrong, and what to do.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::remoted;
use crate::support::port::free_port;
use crate::support::scene::wait_until;
use crate::support::{Identities, Node, PATIENCE, Setup, client, server};

/// The line of a program that does not start.
fn failure(setup: &Setup) -> String {
    let output = setup.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_port_in_use_is_told_with_its_holder_and_its_variable() {
    let identities = Identities::new(&["web1"]);
    let node = server(&identities).start();
    let ours = format!("rp_server_start (process {}); ", node.pid());
    let role = "the local HTTP port of a RestPipe server, ";
    let web1 = || client(&identities, "web1", node.pipe());

    let text = failure(&web1().set("RP_CLIENT_HTTP_BIND", node.http()));
    let end = format!("by another program: {role}{ours}RP_CLIENT_HTTP_BIND sets it\n");
    assert!(text.contains("in use") && text.ends_with(&end), "{text}");
    let text = failure(&server(&identities).set("BIND_PORT", node.pipe().port()));
    let end = format!(
        "by another program: the pipe port of a RestPipe server, {ours}BIND_PORT sets it\n"
    );
    assert!(text.ends_with(&end), "{text}");
    let listen = format!("{}=server/db", node.http());
    let text = failure(&web1().set("RP_TCP_LISTEN", listen));
    assert!(
        text.ends_with(&format!("by another program: {role}{ours}RP_TCP_LISTEN sets it\n")),
        "{text}"
    );
    // The check says the same.
    let setup = web1().set("RP_CLIENT_HTTP_BIND", node.http());
    let checked = setup.command().arg("--check").output().unwrap();
    let text = String::from_utf8(checked.stdout).unwrap();
    let words = format!("is in use by another program: {role}{}", ours.trim_end_matches("; "));
    assert!(text.contains(&words) && text.contains("RP_CLIENT_HTTP_BIND sets it"), "{text}");

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let me = format!("(process {})", std::process::id());
    let text = failure(&web1().set("RP_CLIENT_HTTP_BIND", other.local_addr().unwrap()));
    assert!(text.contains(&me), "{text}");
    let path = identities.path("http");
    let unix = server(&identities).set("RP_SERVER_HTTP_BIND", format!("unix:{}", path.display()));
    let _running = unix.start();
    let text = failure(&unix);
    assert!(text.contains(role) && text.contains("RP_SERVER_HTTP_BIND sets it"), "{text}");
    let mut broker = remoted(&["broker"]);
    broker.env("RP_REMOTED_BIND", node.http().to_string());
    let keys = identities.path("keys.json");
    assert!(remoted(&["keys", keys.to_str().unwrap()]).output().unwrap().status.success());
    let output = broker.env("RP_REMOTED_CONFIG", keys).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.ends_with(&format!("by another program: {role}{ours}RP_REMOTED_BIND sets it\n")),
        "{text}"
    );
}

#[test]
fn guesses_at_files_are_told_how_to_ask() {
    let identities = Identities::new(&["files"]);
    let share = tempfile::tempdir().unwrap();
    fs::create_dir(share.path().join("docs")).unwrap();
    fs::write(share.path().join("docs/hello.txt"), "hello").unwrap();
    let node = server(&identities).start();
    let handler = format!("files:{}", share.path().display());
    let setup = client(&identities, "files", node.pipe()).set("RP_EVENT_HANDLER", handler);
    let _client = setup.start();
    node.get_when_up("/client/files/list//");
    for path in ["", "docs/hello.txt", "docs", "docs//hello.txt"] {
        let answer = node.get(&format!("/client/files/{path}"));
        assert_eq!(answer.status, 404, "{answer:?}");
        assert_eq!(answer.json()["error"], "unhandled");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let forms = "file//PATH is a file, list//PATH a directory, list// the whole one";
        assert!(message.starts_with("these are files") && message.ends_with(forms), "{message}");
    }
    assert_eq!(node.get("/client/files/file//docs/hello.txt").text(), "hello");
}

#[test]
fn tls_at_the_local_port_is_told_by_its_name() {
    let identities = Identities::new(&[]);
    let node = server(&identities).start();
    let mut socket = TcpStream::connect(node.http()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // The beginning of a ClientHello.
    socket.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.contains("this port speaks HTTP without TLS: ask http://, not https://"),
        "{answer}"
    );
    node.wait_log(&["WARN", "http: refused a request: 400 ", "HTTP without TLS"]);
}

#[test]
fn the_same_failure_is_one_line_in_the_first_seconds_and_one_name_is_used() {
    let identities = Identities::new(&["web1"]);
    let port = free_port();
    let pipe = ([127, 0, 0, 1], port).into();
    let client = client(&identities, "web1", pipe).set("RUST_LOG", "restpipe=debug").start();
    let count = |words: &str| client.log().iter().filter(|line| line.contains(words)).count();
    wait_until(|| {
        let tries = count("dialling again in");
        (tries < 5).then(|| format!("{tries} attempts"))
    });
    assert_eq!(count("not connected: "), 1, "{:#?}", client.log());

    let setup = server(&identities).set("BIND_PORT", port);
    let node = setup.start();
    client.wait_log(&["INFO  localhost: connected to 127.0.0.1:"]);
    drop(node);
    client.wait_log(&["INFO  localhost: lost: "]);
    // A failure within ten seconds of the first has no line of its own, but its next attempt has.
    client.wait_log(&["DEBUG localhost: dialling again in "]);
}

#[test]
fn a_key_of_the_wrong_role_is_told_by_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.json");
    assert!(remoted(&["keys", keys.to_str().unwrap()]).output().unwrap().status.success());
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&keys).unwrap()).unwrap();
    let key = |name: &str| json[name].as_str().unwrap().to_owned();
    let mut command = remoted(&["broker"]);
    command.env("RP_REMOTED_CONFIG", &keys).env("RP_REMOTED_BIND", "127.0.0.1:0");
    let broker = Node::start(command);
    let address = broker.ready("remoted").to_owned();

    // A path without and one with a server.
    let publish = |path: &str, key: String| {
        let url = format!("rws://{address}{path}");
        let mut command = remoted(&["publish", &url, "--to", "127.0.0.1:9"]);
        command.env("RP_REMOTED_APIKEY", key);
        Node::launch(command)
    };
    let served = publish("/served", key("server_apikey"));
    assert_eq!(served.next_line(), "ready published=/served");
    for path in ["/free", "/served"] {
        let wrong = publish(path, key("client_apikey"));
        let line = wrong.wait_log(&["not registered: ", "the key is one of callers"]);
        assert!(line.contains("server_apikey in the broker's file of keys"), "{line}");
        broker.wait_log(&[
            "it asks to register a path, and its key, client_apikey, is one of callers",
        ]);
    }
    let url = format!("rwr://{address}/served");
    let mut connect = remoted(&["connect", "--stdio", &url]);
    let output = connect.env("RP_REMOTED_APIKEY", key("server_apikey")).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("the key is one of servers; a caller needs one of callers"), "{text}");
}

#[test]
fn an_unknown_option_is_told_with_the_known_one() {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).env_clear().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let text = run(env!("CARGO_BIN_EXE_rp_ca"), &["issue", "web1", "--clint"]);
    let expected =
        "rp_ca: unknown argument \"--clint\"; did you mean --client?; see rp_ca issue --help\n";
    assert_eq!(text, expected);
    let text = run(env!("CARGO_BIN_EXE_rp_client_start"), &["--chek"]);
    assert!(text.contains("did you mean --check?"), "{text}");
}

/// As `timeout` does, which signals the program and then its group.
#[test]
fn two_signals_within_milliseconds_are_one() {
    let identities = Identities::new(&["web1"]);
    for _ in 0..5 {
        let mut node = server(&identities).start();
        node.signal("TERM");
        node.signal("TERM");
        assert_eq!(node.wait_exit().code(), Some(0));
    }
    let setup = client(&identities, "web1", ([127, 0, 0, 1], free_port()).into());
    let plain = setup.command();
    let mut command = Command::new("timeout");
    command.arg("1").arg(plain.get_program()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.ends_with(" INFO  stopped\n"), "{log}");
    // A person's second one still ends it at once: here one that has much to finish.
    let node = server(&identities).set("RP_DRAIN_S", "60").start();
    let mut client = client(&identities, "web1", node.pipe()).set("RP_DRAIN_S", "60").start();
    client.get_when_up("/server/time");
    let http = client.http();
    let asked = thread::spawn(move || {
        let mut socket = TcpStream::connect(http).unwrap();
        let head =
            "POST /server/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&[b'x'; 100_000]).unwrap();
        // Until the node is gone.
        let _ = socket.read_to_end(&mut Vec::new());
    });
    wait_until(|| {
        let answer = client.get("/status");
        let busy = answer.text().contains("\"in_flight\"");
        (!busy).then(|| answer.text().to_owned())
    });
    let began = Instant::now();
    client.signal("TERM");
    client.wait_log(&["stopping after SIGTERM"]);
    thread::sleep(Duration::from_millis(500));
    client.signal("TERM");
    assert_ne!(client.wait_exit().code(), Some(0));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    asked.join().unwrap();
}

#[test]
fn an_address_as_a_dns_name_of_a_certificate_is_told() {
    let identities = Identities::none();
    identities.ca(&["init"]);
    identities.ca(&["issue", "web1", "--client"]);
    crate::support::tls::issue(&identities, "hub", |params| {
        let name = "127.0.0.1".try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let hub = server(&identities)
        .set("RP_SERVER_KEY_FILENAME", "hub.key.pem")
        .set("RP_SERVER_CRT_FILENAME", "hub.crt.pem");
    let node = hub.start();
    let client = client(&identities, "web1", node.pipe()).start();
    let line = client.wait_log(&["the certificate is for 127.0.0.1, not for 127.0.0.1"]);
    assert!(
        line.contains("it has this address as a DNS name") && line.contains("--san ADDRESS"),
        "{line}"
    );
}
