//! `rp_remoted connect` against a broker played by the test, with the recorded bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::broker::{Broker, KEY, Visitor, field, remoted};
use crate::support::peer::{Ended, Peer};
use crate::support::port::accept;
use crate::support::tls::{accepting_anybody, endless_chain, read_identity};
use crate::support::{Identities, Node, PATIENCE};

/// A local port whose connections lead to this path.
fn forward(arguments: &[&str]) -> Node {
    Node::start(forward_command(arguments))
}

fn forward_command(arguments: &[&str]) -> Command {
    let mut command = remoted(&[&["connect", "--listen", "127.0.0.1:0"], arguments].concat());
    command.env("DEBUG", "1");
    command
}

fn dial(node: &Node) -> Visitor {
    Visitor::from(TcpStream::connect(node.ready("listen")).unwrap())
}

#[test]
fn a_connection_is_asked_for_with_the_recorded_bytes() {
    let broker = Broker::new();
    let mut node = forward(&[&broker.url("rwr", "/test/path/"), "--idle", "60"]);
    let mut near = dial(&node);
    near.write("first words");
    let mut link = broker.accept();
    let head = link.head();
    let id = field(&head, "WebRoute-ID").to_owned();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(
        head,
        format!(
            "GET /test/path/ HTTP/1.1\r\nHost: {}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: webroute\r\nWebRoute-Version: 1\r\nWebRoute-ID: {id}\r\n\
             WebRoute-Timeout: 60\r\nX-Remoted-APIKey: {KEY}\r\n\r\n",
            broker.address()
        )
    );
    link.says_nothing();
    link.welcome_webroute(&head, "early");
    assert_eq!(near.read(5), b"early");
    assert_eq!(link.read(11), b"first words");
    // Half-close either way.
    near.ends_writing();
    assert_eq!(link.read_to_end(), b"");
    link.write("the answer");
    drop(link);
    assert_eq!(near.read_to_end(), b"the answer");
    // Each connection has its own id.
    let _near = dial(&node);
    assert_ne!(field(&broker.accept().head(), "WebRoute-ID"), id);
    node.signal("TERM");
    assert!(node.wait_exit().success());
    assert!(!node.log().concat().contains(KEY), "{:#?}", node.log());
}

#[test]
fn a_reset_of_either_side_reaches_the_other() {
    let broker = Broker::new();
    let node = forward(&[&broker.url("rwr", "/p")]);
    let joined = || {
        let mut near = dial(&node);
        let mut link = broker.accept();
        let head = link.head();
        link.welcome_webroute(&head, "x");
        assert_eq!(near.read(1), b"x");
        (near, link)
    };
    let (near, mut link) = joined();
    near.reset();
    let error = link.socket.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (mut near, link) = joined();
    link.reset();
    let error = near.socket.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn what_is_beyond_the_bound_is_reset() {
    let broker = Broker::new();
    let url = broker.url("rwr", "/test/path/");
    let node = forward(&[&url, "--max-connections", "1"]);
    let _first = dial(&node);
    let mut caller = broker.accept();
    caller.head();
    let error = std::io::Read::read(&mut dial(&node).socket, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn what_cannot_be_served_is_closed_with_one_line() {
    let broker = Broker::new();
    let node = forward(&[&broker.url("rwr", "/p")]);
    let json = |status: &str, error: &str| {
        let body = format!(r#"{{"success":false,"error":"{error}","errorcode":"x"}}"#);
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\
             {body}",
            body.len()
        )
    };
    let cases = [
        (
            json("403 Forbidden", "Invalid or missing 'X-Remoted-APIKey' header."),
            "the broker does not take this key here (403)",
        ),
        (
            json("502 Bad Gateway", "Requested destination does not exist at this time."),
            "nobody serves this path at this time (502)",
        ),
        (
            json("400 Bad Request", "Invalid request.  Expected WebRoute upgrade."),
            "the broker refuses (400: Invalid request.  Expected WebRoute upgrade.)",
        ),
        (
            "HTTP/1.1 426 Upgrade Required\r\nWebRoute-Version: 1\r\n\r\n".to_owned(),
            "the broker refuses (426)",
        ),
        (
            "HTTP/1.1 504 Gateway Timeout\r\nWebRoute-Version: 1\r\nConnection: close\r\n\r\n"
                .to_owned(),
            "the server of this path did not come in time",
        ),
        (
            "HTTP/1.1 101 X\r\nUpgrade: webroute\r\nSec-WebRoute-Accept: x\r\n\r\n".to_owned(),
            "what answers is no broker",
        ),
        (format!("HTTP/1.1 101 {}", "x".repeat(100_000)), "the head is over 16384 bytes"),
        (String::new(), "the broker closed the connection without an answer"),
    ];
    for (answer, reason) in cases {
        let seen = node.log().len();
        let mut near = dial(&node);
        let start = Instant::now();
        let mut link = broker.accept();
        link.head();
        let _ = link.socket.write_all(answer.as_bytes());
        drop(link);
        near.waits_for_end();
        assert!(start.elapsed() < Duration::from_secs(15));
        node.wait_log_from(seen, &["WARN", "not connected: rwr://127.0.0.1:", "/p: ", reason]);
        let warnings = node.log().iter().skip(seen).filter(|line| line.contains("WARN")).count();
        assert_eq!(warnings, 1);
    }
    assert!(!node.log().concat().contains(KEY), "{:#?}", node.log());
    let seen = node.log().len();
    drop(broker);
    dial(&node).waits_for_end();
    node.wait_log_from(seen, &["WARN", "not connected", "Connection refused"]);
}

#[test]
fn a_broker_that_breaks_off_at_any_byte_costs_one_connection() {
    let broker = Broker::new();
    let node = forward(&[&broker.url("rwr", "/p")]);
    let mut cut = 0;
    loop {
        let mut near = dial(&node);
        near.write("early");
        let mut link = broker.accept();
        let accept = restpipe::remoted::head::webroute_accept(field(&link.head(), "WebRoute-ID"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webroute\r\nConnection: Upgrade\r\n\
             Sec-WebRoute-Accept: {accept}\r\n\r\n"
        );
        if cut == answer.len() {
            link.write(answer);
            assert_eq!(link.read(5), b"early", "it still serves");
            break;
        }
        link.write(&answer[..cut]);
        if cut % 2 == 0 {
            link.reset();
        } else {
            drop(link);
        }
        near.waits_for_end();
        cut += 1;
    }
    // The log line may appear a moment after the end of the connection.
    let told = || node.log().iter().filter(|line| line.contains("not connected")).count();
    let until = Instant::now() + PATIENCE;
    while told() < cut && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(told(), cut);
}

#[test]
fn standard_input_and_output_are_a_connection() {
    let broker = Broker::new();
    let url = broker.url("rwr", "/p");
    let start = || {
        let mut command = remoted(&["connect", "--stdio", &url]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut process = start();
    let mut link = broker.accept();
    let head = link.head();
    link.welcome_webroute(&head, "banner\n");
    process.stdin.take().unwrap().write_all(b"question").unwrap();
    assert_eq!(link.read_to_end(), b"question", "the end of input is passed on");
    link.write("answer");
    drop(link);
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(output.stdout, b"banner\nanswer");

    let process = start();
    let mut link = broker.accept();
    link.head();
    link.write("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        text,
        format!(
            "rp_remoted: rwr://{}/p: nobody serves this path at this time (502)\n",
            broker.address()
        )
    );

    let mut process = start();
    let mut link = broker.accept();
    let head = link.head();
    link.welcome_webroute(&head, "x");
    process.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert!(process.wait().unwrap().success());
}

#[test]
fn several_brokers_are_passed_one_inside_the_other() {
    let broker = Broker::new();
    let first = broker.url("rwr", "/first");
    let both = format!("{first} rwr://KEY2@second.example:8080/second?q=1");
    // As two arguments, and as one, like the original writes them.
    for arguments in [both.split(' ').collect::<Vec<_>>(), vec![both.as_str()]] {
        let node = forward(&arguments);
        let mut near = dial(&node);
        let mut link = broker.accept();
        let head = link.head();
        assert!(head.starts_with("GET /first HTTP/1.1\r\n"), "{head}");
        link.says_nothing();
        link.welcome_webroute(&head, "");
        let head = link.head();
        assert!(
            head.starts_with("GET /second?q=1 HTTP/1.1\r\nHost: second.example:8080\r\n"),
            "{head}"
        );
        assert_eq!(field(&head, "X-Remoted-APIKey"), "KEY2");
        link.welcome_webroute(&head, "at last");
        assert_eq!(near.read(7), b"at last");
        let log = node.log().concat();
        assert!(!log.contains(KEY) && !log.contains("KEY2"), "{log}");
    }
}

#[test]
fn a_unix_socket_is_a_local_port_too() {
    let broker = Broker::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("port");
    let listen = format!("unix:{}", path.display());
    let url = broker.url("rwr", "/p");
    let mut node = Node::start(remoted(&["connect", &url, "--listen", &listen]));
    assert_eq!(node.ready("listen"), listen);
    let mut near = UnixStream::connect(&path).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut link = broker.accept();
    let head = link.head();
    link.welcome_webroute(&head, "x");
    near.read_exact(&mut [0; 1]).unwrap();
    drop((near, link));
    node.signal("TERM");
    assert!(node.wait_exit().success());
    assert!(!path.exists());
}

#[test]
fn a_proxy_is_passed_where_the_environment_says_so() {
    let broker = Broker::new();
    let proxy = Broker::new();
    let url = broker.url("rwr", "/p");
    let start = |no_proxy: &str| {
        let mut command = forward_command(&[&url]);
        let address = proxy.address();
        command.env("http_proxy", format!("http://user:PASSWORD@{address}/"));
        command.env("HTTPS_PROXY", "http://not.for.this:1").env("NO_PROXY", no_proxy);
        Node::start(command)
    };
    let node = start("");
    let mut near = dial(&node);
    let mut passed = proxy.accept();
    assert_eq!(
        passed.head(),
        format!(
            "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\
             Proxy-Authorization: Basic dXNlcjpQQVNTV09SRA==\r\n\r\n",
            broker.address()
        )
    );
    passed.write("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n");
    let head = passed.head();
    passed.welcome_webroute(&head, "through");
    assert_eq!(near.read(7), b"through");

    for (answer, reason) in [
        ("HTTP/1.1 407 X\r\n\r\n", "the proxy does not accept the user and password that are set"),
        ("HTTP/1.1 403 X\r\n\r\n", "the proxy refused: 403 X"),
        ("", "the proxy closed the connection instead of answering"),
    ] {
        let mut near = dial(&node);
        let mut passed = proxy.accept();
        passed.head();
        passed.write(answer);
        drop(passed);
        near.waits_for_end();
        node.wait_log(&["WARN", &format!("http://{}: {reason}", proxy.address())]);
    }
    let log = node.log().concat();
    assert!(!log.contains("PASSWORD") && !log.contains("UEFTU1dPUkQ"), "{log}");

    let node = start("localhost,127.0.0.1");
    let _near = dial(&node);
    assert!(broker.accept().head().starts_with("GET /p "));
}

#[test]
fn wrong_usage_is_one_line_without_the_key() {
    let url = format!("rwr://{KEY}@h/p");
    let server = format!("rws://{KEY}@h/p");
    let cases: [(&[&str], &str); 7] = [
        (&["--stdio"], "URL is missing"),
        (&[&url], "one of --listen and --stdio is needed"),
        (&[&url, "--stdio", "--listen", "127.0.0.1:0"], "one of --listen and --stdio is needed"),
        (&[&url, "--listen", "2222"], "--listen \"2222\": IP:PORT"),
        (&[&server, "--stdio"], "what is called begins with rwr"),
        (&["rwr://h/p", "--stdio"], "rwr://h/p: there is no key for it"),
        (&[&url, "--stdio", "--pin", "00", "--ca", "x"], "--pin \"00\": a SHA-256"),
    ];
    for (arguments, message) in cases {
        let output = remoted(&[&["connect"], arguments].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(message) && text.lines().count() == 1, "{arguments:?}: {text}");
        assert!(!text.contains(KEY), "{text}");
    }
    let mut command = remoted(&["connect", &url, "--stdio"]);
    command.env("HTTPS_PROXY", format!("https://{KEY}@h"));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("rp_remoted: HTTPS_PROXY is no proxy") && !text.contains(KEY),
        "{text}"
    );
}

#[test]
fn a_peer_without_tls_or_without_a_word_is_given_up() {
    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("rwrs://{KEY}@{}/p", plain.local_addr().unwrap());
    let pin = "00".repeat(32);
    let node = forward(&[&url, "--pin", &pin]);
    let mut near = dial(&node);
    let mut peer = Visitor::from(accept(&plain));
    peer.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    near.waits_for_end();
    node.wait_log(&["WARN", "the peer does not speak TLS on this port"]);
    let mut near = dial(&node);
    let _silent = accept(&plain);
    let start = Instant::now();
    near.waits_for_end();
    assert!(start.elapsed() < Duration::from_secs(15));
    node.wait_log(&["WARN", "the TLS handshake was not finished in time"]);
}

#[test]
fn a_false_broker_with_a_chain_of_many_ways_costs_nothing() {
    let identities = Identities::new(&[]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("rwrs://{KEY}@localhost:{}/p", listener.local_addr().unwrap().port());
    let ca = identities.path("ca.crt.pem");
    let node = forward(&[&url, "--ca", ca.to_str().unwrap()]);
    let mut near = dial(&node);
    let config = accepting_anybody(endless_chain("localhost"));
    let ended = Peer::accept(&listener, config).map(|_| "in").unwrap_err();
    let told = matches!(&ended, Ended::Tls(alert) if alert.contains("CertificateUnknown"));
    assert!(told, "{ended:?}");
    near.waits_for_end();
    node.wait_log(&["WARN", "the broker is refused: the certificate chain has ", "more than 6;"]);
    let spent = node.cpu_time();
    assert!(spent < Duration::from_secs(2), "it took {spent:?} of CPU time");
    // The right one is accepted, whatever it answers then.
    let _near = dial(&node);
    let right = accepting_anybody(read_identity(&identities, "localhost"));
    Peer::accept(&listener, right).unwrap();
}
