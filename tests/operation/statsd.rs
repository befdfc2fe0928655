//! The statsd packets of two real nodes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{self, Identities, PATIENCE, Setup, client, server};

/// A statsd that sums up what it receives.
struct Statsd {
    port: u16,
    /// Taken from the socket as they come: its buffer has no room for all that a busy test sends.
    packets: Receiver<Vec<u8>>,
    counts: BTreeMap<String, u64>,
    timings: BTreeMap<String, Vec<f64>>,
}

impl Statsd {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (sender, packets) = mpsc::channel();
        thread::spawn(move || {
            let mut packet = [0; 65_536];
            while let Ok(length) = socket.recv(&mut packet) {
                // Disconnected at the end of the test.
                if sender.send(packet[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { port, packets, counts: BTreeMap::new(), timings: BTreeMap::new() }
    }

    fn told_by(&self, setup: Setup) -> Setup {
        setup.set("RP_STATSD_HOST", "localhost").set("RP_STATSD_PORT", self.port)
    }

    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Receives until `enough`.
    fn wait(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !enough(self) {
            assert!(Instant::now() < until, "{what}: {:?} {:?}", self.counts, self.timings);
            self.take();
        }
    }

    fn take(&mut self) {
        let Ok(packet) = self.packets.recv_timeout(Duration::from_millis(50)) else { return };
        assert!(packet.len() <= 1432, "{} bytes", packet.len());
        for line in std::str::from_utf8(&packet).unwrap().split('\n') {
            let (name, rest) = line.split_once(':').unwrap();
            let clean = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            assert!(name.chars().all(clean), "{line}");
            let (value, kind) = rest.split_once('|').unwrap();
            match kind.split_once('|').map_or(kind, |(kind, _)| kind) {
                "c" => {
                    assert_eq!(kind, "c", "{line}");
                    *self.counts.entry(name.to_owned()).or_default() +=
                        value.parse::<u64>().unwrap();
                }
                "ms" => {
                    let value = value.parse().unwrap();
                    self.timings.entry(name.to_owned()).or_default().push(value);
                }
                _ => panic!("{line}"),
            }
        }
    }
}

#[test]
fn both_nodes_count_under_the_originals_names() {
    let identities = Identities::new(&["web1"]);
    let (mut on_server, mut on_client) = (Statsd::new(), Statsd::new());
    let server_node = on_server.told_by(server(&identities)).start();
    let client = on_client
        .told_by(client(&identities, "web1", server_node.pipe()))
        .set("RP_CLIENT_HEARTBEAT_INTERVAL_S", "0.2")
        .set("RP_CLIENT_HEARTBEAT_TIMEOUT_S", "1")
        .start();
    client.get_when_up("/server/time");
    for _ in 0..9 {
        assert_eq!(client.get("/server/time").status, 200);
    }
    for made_up in 0..20 {
        assert_eq!(client.get(&format!("/server/made-up-{made_up}")).status, 404);
    }
    assert_eq!(server_node.get("/client/web1/cat//a").status, 200);

    on_server.wait("handled", |statsd| statsd.count("message.receive.tick") >= 30);
    on_server.wait("asked", |statsd| statsd.count("message.send.tick") >= 1);
    on_server
        .wait("the last", |statsd| statsd.count("message.received.handle.unhandled.tick") >= 20);
    let counts: Vec<(&str, u64)> =
        on_server.counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(
        counts,
        [
            ("message.receive.tick", 30),
            ("message.received.handle.get_time.tick", 10),
            // Names made up by peers do not become metrics.
            ("message.received.handle.unhandled.tick", 20),
            ("message.send.tick", 1),
        ]
    );
    for name in [
        "message.send.timing",
        "message.receive.handle.timing",
        "message.received.handle.get_time.timing",
        "message.received.handle.unhandled.timing",
    ] {
        on_server.wait(name, |statsd| statsd.timings.contains_key(name));
        assert!(on_server.timings[name].iter().all(|ms| (0.0..20_000.0).contains(ms)), "{name}");
    }

    on_client.wait("heartbeats", |statsd| {
        statsd.count("client.connect.heartbeat.success.tick") >= 3
            && statsd.timings.contains_key("client.connect.heartbeat.timing")
    });
    on_client.wait("handled", |statsd| {
        statsd.count("message.received.handle.get_cat.tick") == 1
            && statsd.count("message.send.tick") == 30
    });
    assert!(on_client.count("client.connect.new.tick") >= 1);
    assert_eq!(on_client.count("client.connect.connected.tick"), 1);
    assert_eq!(on_client.timings["client.connect.new.attempt.timing"].len(), 1);
    assert_eq!(on_client.count("client.connect.broken.tick"), 0);
    assert_eq!(on_client.count("client.connect.heartbeat.fail.tick"), 0);

    server_node.signal("STOP");
    on_client.wait("silence", |statsd| {
        statsd.count("client.connect.heartbeat.fail.tick") == 1
            && statsd.count("client.connect.broken.tick") == 1
            && statsd.count("client.connect.new.tick") >= 2
    });
    server_node.signal("CONT");
}

/// Events at the very end are sent, too.
#[test]
fn a_node_that_stops_sends_what_is_left() {
    let identities = Identities::new(&["web1"]);
    let mut on_server = Statsd::new();
    let mut server = on_server.told_by(server(&identities)).start();
    let client = client(&identities, "web1", server.pipe()).start();
    client.get_when_up("/server/time");
    server.signal("TERM");
    assert!(server.wait_exit().success());
    on_server.wait("one", |statsd| statsd.count("message.received.handle.get_time.tick") == 1);
}

#[test]
fn a_statsd_that_is_not_there_costs_nothing_and_floods_no_log() {
    let identities = Identities::new(&["web1"]);
    // Nobody listens at one, and the other does not resolve.
    let server = server(&identities)
        .set("RP_STATSD_HOST", "no.such.host.invalid")
        .set("RP_STATSD_PORT", "1")
        .start();
    let client = client(&identities, "web1", server.pipe())
        .set("RP_STATSD_HOST", "127.0.0.1")
        .set("RP_STATSD_PORT", "1")
        .start();
    client.get_when_up("/server/time");
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(client.get("/server/time").status, 200);
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    server.wait_log(&["WARN", "statsd: no.such.host.invalid:1 cannot be sent to, for now: "]);
    for (node, lines) in [(&server, 1), (&client, 0)] {
        let log = node.log();
        assert_eq!(log.iter().filter(|line| line.contains("statsd")).count(), lines, "{log:#?}");
    }
}

#[test]
fn it_is_off_unless_it_is_set() {
    let identities = Identities::new(&["web1"]);
    let server_node = server(&identities).start();
    let empty = |setup: Setup| setup.set("RP_STATSD_HOST", "").set("RP_STATSD_PORT", "");
    let off = empty(client(&identities, "web1", server_node.pipe())).start();
    off.get_when_up("/server/time");
    let threads = |pid: u32| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let comm = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.filter_map(|task| comm(task.unwrap()).ok()).collect::<Vec<_>>()
    };
    for node in [&server_node, &off] {
        assert!(!threads(node.pid()).contains(&"statsd\n".to_owned()));
    }
    drop(off);
    for (name, value) in [("RP_STATSD_HOST", "127.0.0.1"), ("RP_STATSD_PORT", "8125")] {
        let client = client(&identities, "web1", server_node.pipe()).set(name, value).start();
        // A thread gets its name when it first runs.
        support::scene::wait_until(|| {
            let names = threads(client.pid());
            (!names.contains(&"statsd\n".to_owned())).then(|| format!("{names:?}"))
        });
    }
}

/// A service answers whatever is asked; the scripts beside it are counted all the same.
#[test]
fn paths_that_a_service_answers_hide_no_method() {
    const MADE_UP: u64 = 400;
    let identities = Identities::new(&["web1"]);
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = service.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut socket, _)) = service.accept() {
            let mut request = [0; 4096];
            let count = socket.read(&mut request).unwrap_or(0);
            let is_known = request[..count].starts_with(b"GET /known");
            let line = if is_known { "200 OK" } else { "404 Not Found" };
            let answer =
                format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    let scripts = tempfile::tempdir().unwrap();
    support::write_script(&scripts.path().join("get_x"), "#!/bin/sh\necho x\n");
    let handler = format!("svc=http://{address},s=exec:{}", scripts.path().display());
    let mut statsd = Statsd::new();
    let server = server(&identities).set("RP_EVENT_HANDLER", handler);
    let server = statsd.told_by(server).start();
    let client = client(&identities, "web1", server.pipe()).start();
    client.get_when_up("/server/s/x");
    for number in 0..MADE_UP {
        assert_eq!(client.get(&format!("/server/svc/known{number}")).status, 200);
        assert_eq!(client.get(&format!("/server/svc/made-up{number}")).status, 404);
        assert_eq!(client.get(&format!("/server/odd{number}?%FF")).status, 400);
    }
    assert_eq!(client.get("/server/s/x").status, 200);
    let tick = |name: &str| format!("message.received.handle.{name}.tick");
    statsd.wait("all", |statsd| statsd.count("message.receive.tick") >= 3 * MADE_UP + 2);
    statsd.wait("the script", |statsd| statsd.count(&tick("get_s_x")) >= 2);
    statsd.wait("unknown", |statsd| statsd.count(&tick("unhandled")) >= 2 * MADE_UP);
    statsd.wait("other", |statsd| statsd.count(&tick("other")) >= MADE_UP - 128);
    assert_eq!(statsd.count(&tick("get_svc_known0")), 1);
    assert_eq!(statsd.count(&tick("other")), MADE_UP - 128);
}
