//! Third-party programs: nginx in front, and an independent WebSocket client.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::operation::{command, ends};
use super::scene::{Ends, Keys, Scene};
use crate::support::nginx::Nginx;
use crate::support::{NGINX, Node, PATIENCE, has_all, skip};

const PATH: &str = "/test/path/";
const GUIDE: &str = include_str!("../../../src/guide/broker.md");

/// Says that a test did not run, past the harness, which would keep the line to itself.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Registers, prints each notice, and exits when told to.
const WEBSOCKETS: &str = r#"
import asyncio, sys, websockets

async def main(url, key):
    headers = {"X-Remoted-APIKey": key}
    async with websockets.connect(url, extra_headers=headers, origin="http://localhost",
                                  compression=None, ping_interval=0.2, ping_timeout=5) as server:
        print("registered", flush=True)
        async for notice in server:
            print(notice, flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

#[test]
fn an_independent_websocket_client_is_a_server_like_any_other() {
    // The system's Python, which has Debian's package.
    let python = "/usr/bin/python3";
    let has = Command::new(python).args(["-c", "import websockets"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        skip("python3-websockets");
        return;
    }
    let scene = Scene::with(|settings| {
        settings.times.ping_after = Duration::from_millis(100);
        settings.times.pong_within = Duration::from_secs(10);
    });
    let mut child = Command::new(python)
        .args(["-c", WEBSOCKETS, &format!("ws://{}{PATH}", scene.address), &scene.keys.server])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let client = Killed(child);
    let mut line = || lines.next().unwrap().unwrap();
    assert_eq!(line(), "registered");
    // Pings go both ways meanwhile.
    let until = Instant::now() + Duration::from_millis(600);
    for number in 0.. {
        let id = format!("python-{number}");
        let mut caller = scene.call(PATH, &id);
        let notice: serde_json::Value = serde_json::from_str(&line()).unwrap();
        assert_eq!(notice["id"], *id);
        assert!(scene.join(PATH, &id).head().starts_with("HTTP/1.1 101 "));
        assert!(caller.head().starts_with("HTTP/1.1 101 "));
        if Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    let until = Instant::now() + PATIENCE;
    while !scene.call(PATH, "probe").some().starts_with(b"HTTP/1.1 502 ") {
        assert!(Instant::now() < until);
    }
}

/// The guide's configuration, in front of this broker.
fn nginx(broker: SocketAddr) -> Nginx {
    let (_, location) = GUIDE.split_once("# rp_remoted broker behind nginx\n").unwrap();
    let (location, _) = location.split_once("\n```").unwrap();
    assert!(location.contains("127.0.0.1:37791"), "{location}");
    let location = location.replace("127.0.0.1:37791", &broker.to_string());
    Nginx::start(|address| format!("server {{ listen {address}; {location} }}"))
}

#[test]
fn nginx_may_stand_in_front() {
    if !has_all(&[NGINX]) {
        return;
    }
    let keys = Keys::new();
    let mut command = command(&keys);
    command.env("RP_REMOTED_BEHIND_PROXY", "1");
    let node = Node::start(command);
    let direct = ends(&node, &keys);
    let nginx = nginx(direct.address);
    let behind = Ends { address: nginx.address, keys: &keys };

    let mut server = behind.register(PATH);
    // All three through nginx, then one of them directly.
    for (callers, servers) in [(behind, behind), (direct, behind), (behind, direct)] {
        let mut caller = callers.call(PATH, "id");
        // The caller's own address, although nginx makes the connection.
        let address = caller.socket.local_addr().unwrap().to_string();
        let notice = server.notice();
        assert_eq!((&notice["id"], &notice["ipaddr"]), (&"id".into(), &address.into()));
        let mut joined = servers.join(PATH, "id");
        assert!(joined.head().starts_with("HTTP/1.1 101 "));
        assert!(caller.head().starts_with("HTTP/1.1 101 "));
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 3) as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| caller.send(&bytes));
            assert!(joined.read(bytes.len()) == bytes);
        });
        joined.send("answer");
        assert_eq!(caller.read(6), b"answer");
        drop(joined);
        assert_eq!(caller.rest(), b"");
    }
    // Refusals pass through with their bodies.
    let (head, body) = behind.call("/nobody", "x").answer();
    assert!(head.starts_with("HTTP/1.1 502 ") && body.contains("missing_destination"), "{head}");
    // A disconnect of the caller is detected through nginx, too.
    let caller = behind.call(PATH, "left");
    server.notice();
    drop(caller);
    node.wait_log(&["left /test/path/ before its server came"]);
    drop(server);
    node.wait_log(&["/test/path/ is free"]);
}
