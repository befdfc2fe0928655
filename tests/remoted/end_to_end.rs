//! The three roles together, as processes, with real programs at both ends.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use restpipe::remoted::{self, Outbound, Proxies, Publisher, Trust, Url};

use crate::processes::{self, Broker, Echo};
use crate::support::broker::{Visitor, remoted};
use crate::support::nginx::Nginx;
use crate::support::port::{accept, free_port};
use crate::support::{self, Identities, NGINX, Node, PATIENCE, REDIS, TINYPROXY, has_all};

#[test]
fn a_web_server_is_reached_through_its_path() {
    if !has_all(&[NGINX]) {
        return;
    }
    let broker = Broker::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let body: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(dir.path().join("file"), &body).unwrap();
    let root = dir.path().display();
    let nginx = Nginx::start(|address| {
        format!(
            "server {{ listen {address} proxy_protocol; root {root};
               location = /caller {{ return 200 $proxy_protocol_addr; }} }}"
        )
    });

    let _publish = broker.publish("/web", &nginx.address.to_string(), &["--proxy-protocol"]);
    let connect = broker.connect("/web", &[]);
    let address: SocketAddr = connect.ready("listen").parse().unwrap();
    assert_eq!(support::ask(address, "GET", "/caller", &[], b"").text(), "127.0.0.1");
    let answer = support::ask(address, "GET", "/file", &[], b"");
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} of {} bytes", answer.body.len(), body.len());
    // Many at once.
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(support::ask(address, "GET", "/caller", &[], b"").status, 200);
                }
            });
        }
    });
}

#[test]
fn a_redis_is_reached_through_a_unix_socket() {
    if !has_all(&[REDIS]) {
        return;
    }
    let broker = Broker::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let redis = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _redis = processes::Killed(redis);
    processes::wait_until("redis listens", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    let _publish = broker.publish("/db", &format!("unix:{}", socket.display()), &[]);
    let connect = broker.connect("/db", &[]);
    let port = connect.ready("listen").rsplit_once(':').unwrap().1.to_owned();
    let ask = |words: &[&str]| {
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let value = "v".repeat(100_000);
    assert_eq!(ask(&["SET", "key", &value]), "OK\n");
    assert_eq!(ask(&["GET", "key"]), format!("{value}\n"));
    // Standard input and output work, too.
    let mut command = broker.caller("/db", &["--stdio"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.as_mut().unwrap().write_all(b"PING\r\nQUIT\r\n").unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"+PONG\r\n+OK\r\n");
}

#[test]
fn tls_trusts_a_file_a_pin_or_the_system_and_nothing_else() {
    let identities = Identities::new(&[]);
    let broker = Broker::start_tls(&identities);
    let file = |name: &str| identities.path(name).to_str().unwrap().to_owned();
    let (ca, echo) = (file("ca.crt.pem"), Echo::start());
    let fingerprint = |name: &str| {
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &file(name)])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().split_once('=').unwrap().1.to_owned()
    };
    let pin = fingerprint("localhost.crt.pem");
    let _publish = broker.publish("/echo", &echo.address(), &["--ca", &ca]);
    for arguments in [["--ca", &ca], ["--pin", &pin], ["", ""]] {
        let mut command = if arguments[0].is_empty() {
            let mut command = broker.caller("/echo", &["--listen", "127.0.0.1:0"]);
            // Replaces the system's roots for this process.
            command.env("SSL_CERT_FILE", &ca);
            command
        } else {
            broker.caller("/echo", &[&["--listen", "127.0.0.1:0"], &arguments[..]].concat())
        };
        let connect = Node::start(std::mem::replace(&mut command, Command::new("true")));
        // More than TLS and the sockets on the path buffer, both ways at once.
        processes::echoes(connect.ready("listen"), 8 << 20);
    }

    let others = Identities::new(&[]);
    let other_ca = others.path("ca.crt.pem").to_str().unwrap().to_owned();
    let other_pin = fingerprint("ca.crt.pem");
    for (option, value, reason) in [
        ("--ca", &other_ca, "is refused: "),
        ("--pin", &other_pin, "has another SHA-256 than the pinned one"),
    ] {
        let connect = broker.connect("/echo", &[option, value]);
        Visitor::from(TcpStream::connect(connect.ready("listen")).unwrap()).waits_for_end();
        connect.wait_log(&["WARN", "not connected: rwrs://", "the broker's certificate", reason]);
    }
    // The right issuer, but another name.
    let url =
        broker.url("rwrs", broker.callers(), "/echo").replace("localhost", "localhost.localdomain");
    let mut command = remoted(&["connect", &url, "--listen", "127.0.0.1:0", "--ca", &ca]);
    command.env("RP_REMOTED_APIKEY", broker.callers());
    let connect = Node::start(command);
    Visitor::from(TcpStream::connect(connect.ready("listen")).unwrap()).waits_for_end();
    // If that name does not resolve, it is not trusted either.
    connect.wait_log(&["WARN", "not connected: rwrs://localhost.localdomain"]);
}

#[test]
fn a_broker_behind_a_broker_is_reached_with_tls_inside_tls() {
    let identities = Identities::new(&[]);
    let ca = identities.path("ca.crt.pem").to_str().unwrap().to_owned();
    let (outer, inner) = (Broker::start_tls(&identities), Broker::start_tls(&identities));
    let echo = Echo::start();
    let _inner = inner.publish("/echo", &echo.address(), &["--ca", &ca]);
    let to = inner.address().to_string();
    let _outer = outer.publish("/inner", &to, &["--ca", &ca]);
    let route =
        [outer.url("rwrs", outer.callers(), "/inner"), inner.url("rwrs", inner.callers(), "/echo")];
    let arguments = ["connect", &route[0], &route[1], "--listen", "127.0.0.1:0", "--ca", &ca];
    let connect = Node::start(remoted(&arguments));
    processes::echoes(connect.ready("listen"), 4 << 20);
}

#[test]
fn a_real_proxy_leads_out() {
    if !has_all(&[TINYPROXY]) {
        return;
    }
    let identities = Identities::new(&[]);
    let ca = identities.path("ca.crt.pem").to_str().unwrap().to_owned();
    let (broker, echo) = (Broker::start_tls(&identities), Echo::start());
    let dir = tempfile::tempdir().unwrap();
    let (port, file) = (free_port(), dir.path().join("tinyproxy.conf"));
    std::fs::write(
        &file,
        format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nBasicAuth user password\n"),
    )
    .unwrap();
    let proxy = Command::new("tinyproxy")
        .env("PATH", "/usr/bin:/usr/sbin:/bin")
        .args(["-d", "-c"])
        .arg(&file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _proxy = processes::Killed(proxy);
    processes::wait_listening(port);
    let through = |mut command: Command, password: &str| {
        command.env("HTTPS_PROXY", format!("http://user:{password}@127.0.0.1:{port}"));
        command
    };
    let publish = broker.server("/echo", &echo.address(), &["--ca", &ca]);
    let publish = Node::launch(through(publish, "password"));
    assert_eq!(publish.next_line(), "ready published=/echo");
    let arguments = ["--listen", "127.0.0.1:0", "--ca", &ca];
    let connect = Node::start(through(broker.caller("/echo", &arguments), "password"));
    // This proxy closes both directions when one has ended, so the end comes last.
    let mut near = Visitor::from(TcpStream::connect(connect.ready("listen")).unwrap());
    near.write("through");
    assert_eq!(near.read(7), b"through");
    let connect = Node::start(through(broker.caller("/echo", &arguments), "wrong"));
    Visitor::from(TcpStream::connect(connect.ready("listen")).unwrap()).waits_for_end();
    connect.wait_log(&["WARN", "http://127.0.0.1:", "does not accept the user and password"]);
}

#[test]
fn a_killed_broker_is_found_again() {
    let (mut broker, echo) = (Broker::start(&[]), Echo::start());
    let publish = broker.publish("/echo", &echo.address(), &[]);
    let connect = broker.connect("/echo", &[]);
    processes::echoes(connect.ready("listen"), 1000);
    let mut open = TcpStream::connect(connect.ready("listen")).unwrap();
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0; 1]).unwrap();
    let seen = publish.log().len();
    broker.kill();
    publish.wait_log_from(seen, &["WARN", "the registration is lost"]);
    // Its connections are broken off.
    assert!(!matches!(open.read(&mut [0; 1]), Ok(1..)));
    broker.restart();
    publish.wait_log_from(seen, &["INFO", "registered"]);
    processes::echoes(connect.ready("listen"), 1000);
}

#[test]
fn half_closes_resets_and_dead_ends_reach_the_far_end() {
    let broker = Broker::start(&[]);
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = target.local_addr().unwrap().to_string();
    let publish = broker.publish("/p", &to, &[]);
    let connect = broker.connect("/p", &[]);
    let dial = || Visitor::from(TcpStream::connect(connect.ready("listen")).unwrap());
    let (mut near, mut far) = (dial(), Visitor::from(accept(&target)));
    near.write("question");
    near.ends_writing();
    assert_eq!(far.read_to_end(), b"question");
    far.write("answer");
    drop(far);
    assert_eq!(near.read_to_end(), b"answer");
    let (near, mut far) = (dial(), Visitor::from(accept(&target)));
    far.write("x");
    let mut near = near;
    assert_eq!(near.read(1), b"x");
    far.reset();
    let error = near.socket.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // The server has stopped.
    drop(target);
    let start = Instant::now();
    dial().waits_for_end();
    assert!(start.elapsed() < Duration::from_secs(15));
    publish.wait_log(&["WARN", "not served", &to, "refused"]);
    // The path was withdrawn.
    drop(publish);
    broker.wait_log(&["/p"]);
    processes::wait_until("the broker tells", || {
        dial().waits_for_end();
        connect.log().iter().any(|line| line.contains("nobody serves this path at this time"))
    });
    // Another key.
    let url = broker.url("rwr", "another-key", "/p");
    let connect = Node::start(remoted(&["connect", &url, "--listen", "127.0.0.1:0"]));
    Visitor::from(TcpStream::connect(connect.ready("listen")).unwrap()).waits_for_end();
    connect.wait_log(&["WARN", "the broker does not take this key here (403)"]);
}

/// Asserts that the connection ends with a reset, whatever arrives before.
fn is_reset(visitor: &mut Visitor) {
    let error = visitor.socket.read_to_end(&mut Vec::new()).expect_err("it seems to have ended");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Both ends of a connection on which bytes have passed both ways.
fn established(connect: &Node, target: &TcpListener) -> [Visitor; 2] {
    let mut near = Visitor::from(TcpStream::connect(connect.ready("listen")).unwrap());
    near.write("half");
    let mut far = Visitor::from(accept(target));
    assert_eq!(far.read(4), b"half");
    far.write("and half");
    assert_eq!(near.read(8), b"and half");
    [near, far]
}

#[test]
fn a_killed_program_leaves_no_connection_that_seems_to_have_ended() {
    let identities = Identities::new(&[]);
    let ca = identities.path("ca.crt.pem");
    for is_tls in [false, true] {
        for killed in ["connect", "broker", "publish"] {
            let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let to = target.local_addr().unwrap().to_string();
            let (mut broker, trust) = match is_tls {
                false => (Broker::start(&[]), vec![]),
                true => (Broker::start_tls(&identities), vec!["--ca", ca.to_str().unwrap()]),
            };
            let publish = broker.publish("/p", &to, &trust);
            let connect = broker.connect("/p", &trust);
            let mut ends = established(&connect, &target);
            // One that has ended its own direction is still cut.
            ends[0].ends_writing();
            assert_eq!(ends[1].socket.read(&mut [0]).unwrap(), 0);
            match killed {
                "connect" => connect.signal("KILL"),
                "publish" => publish.signal("KILL"),
                _ => broker.kill(),
            }
            is_reset(&mut ends[0]);
            // Its end was passed on, so only a write can fail.
            processes::wait_until("the far end is reset", || {
                std::io::Write::write(&mut &ends[1].socket, b"x").is_err()
            });
        }
    }
}

#[test]
fn a_limit_or_the_end_of_a_drain_is_no_regular_end() {
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = target.local_addr().unwrap().to_string();
    for idle in ["broker", "connect"] {
        let seconds = if idle == "broker" { "1" } else { "0" };
        let broker = Broker::start(&[("RP_REMOTED_IDLE_S", seconds.to_owned())]);
        let _publish = broker.publish("/p", &to, &[]);
        let more: &[&str] = if idle == "connect" { &["--idle", "1"] } else { &[] };
        let connect = broker.connect("/p", more);
        established(&connect, &target).iter_mut().for_each(is_reset);
    }
    for stopped in ["connect", "broker", "publish"] {
        let broker = Broker::start(&[("RP_DRAIN_S", "0".to_owned())]);
        let without_drain = |mut command: std::process::Command| {
            command.env("RP_DRAIN_S", "0");
            command
        };
        let publish = Node::launch(without_drain(broker.server("/p", &to, &[])));
        assert_eq!(publish.next_line(), "ready published=/p");
        let connect = Node::start(without_drain(broker.caller("/p", &["--listen", "127.0.0.1:0"])));
        let mut ends = established(&connect, &target);
        match stopped {
            "connect" => connect.signal("TERM"),
            "publish" => publish.signal("TERM"),
            _ => broker.signal("TERM"),
        }
        ends.iter_mut().for_each(is_reset);
    }
}

#[test]
fn both_ends_are_a_library() {
    let broker = Broker::start(&[]);
    let outbound = Arc::new(Outbound::new(Trust::System, Proxies::default()));
    let url = |scheme, key: &str| broker.url(scheme, key, "/lib").parse::<Url>().unwrap();
    let mut publisher = Publisher::start(url("rws", broker.servers()), &outbound).unwrap();
    assert!(publisher.wait_registered(PATIENCE));
    let route = [url("rwr", broker.callers())];
    let outbound_of_caller = Arc::clone(&outbound);
    let caller = thread::spawn(move || {
        let mut connection = remoted::connect(&route, &outbound_of_caller, 60).unwrap();
        connection.set_timeout(Some(PATIENCE));
        connection.write_all(b"question").unwrap();
        connection.shutdown_write().unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    });
    let mut connection = publisher.accept_within(PATIENCE).unwrap();
    assert_eq!(connection.path(), "/lib");
    assert!(connection.caller().unwrap().ip().is_loopback());
    connection.set_timeout(Some(PATIENCE));
    let mut question = String::new();
    connection.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    connection.write_all(b"answer").unwrap();
    drop(connection);
    assert_eq!(caller.join().unwrap(), "answer");
    // A timeout is an error, and so is a withdrawn path.
    let error = publisher.accept_within(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    publisher.stop();
    broker.wait_log(&["/lib is free"]);
    assert_eq!(publisher.accept().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    let error = remoted::connect(&[url("rwr", broker.callers())], &outbound, 60).unwrap_err();
    assert_eq!(error.cause(), &remoted::Cause::NobodyThere);
    assert!(!error.to_string().contains(broker.callers()));
}
