//! Out through real proxies: tinyproxy for `CONNECT`, microsocks for SOCKS5.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::port::free_address;
use crate::support::{Identities, Node, PATIENCE, TINYPROXY, client, has_all, server};

const MICROSOCKS: (&str, &str) = ("microsocks", "microsocks");

/// A proxy that accepts the user `me` with the password `SECRET`, until it is dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Running {
    fn start(command: impl Fn(&TempDir, u16) -> Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Neither can pick a free port.
        let address = free_address();
        let mut command = command(&dir, address.port());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = Self { child, address, _dir: dir };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "{command:?} does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn tinyproxy() -> Self {
        Self::start(|dir, port| {
            let file = dir.path().join("tinyproxy.conf");
            let settings = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 10\nBasicAuth me SECRET\n"
            );
            std::fs::write(&file, settings).unwrap();
            let mut command = Command::new("tinyproxy");
            command.arg("-d").arg("-c").arg(file);
            command
        })
    }

    fn microsocks() -> Self {
        Self::start(|_, port| {
            let mut command = Command::new("microsocks");
            command.args(["-i", "127.0.0.1", "-u", "me", "-P", "SECRET", "-p"]);
            command.arg(port.to_string());
            command
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_no_secret(node: &Node) {
    for secret in ["SECRET", "WRONG", "bWU6"] {
        assert!(!node.log().iter().any(|line| line.contains(secret)), "{:#?}", node.log());
    }
}

#[test]
fn a_pipe_leads_through_a_proxy_of_either_kind() {
    if !has_all(&[TINYPROXY, MICROSOCKS]) {
        return;
    }
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let pipe = server.pipe();
    for (scheme, proxy) in [("http", Running::tinyproxy()), ("socks5", Running::microsocks())] {
        let through = |password: &str| {
            let url = format!("{scheme}://me:{password}@{}", proxy.address);
            // The proxy resolves the name.
            client(&identities, "web1", pipe)
                .set("RP_CLIENT_TARGET_HOSTNAME", "localhost")
                .set("RP_CLIENT_PROXY", url)
                .set("RUST_LOG", "trace")
        };
        let node = through("SECRET").start();
        let body = vec![b'x'; 300_000];
        node.get_when_up("/server/time");
        assert_eq!(node.ask("POST", "/server/echo", &[], &body).body, body);
        assert_eq!(server.get("/client/web1/time").status, 200);
        let line = node.wait_log(&["connected to localhost:", " through "]);
        assert!(line.ends_with(&format!(" through {scheme}://{}", proxy.address)), "{line}");
        assert_no_secret(&node);
        drop(node);

        let node = through("WRONG").start();
        let address = proxy.address;
        node.wait_log(&[
            &format!("localhost:{}: not connected: {scheme}://{address}: the proxy ", pipe.port()),
            "does not accept the user and password that are set",
        ]);
        assert_no_secret(&node);
    }
}

#[test]
fn what_a_proxy_cannot_reach_and_a_proxy_that_is_not_there_are_named() {
    if !has_all(&[MICROSOCKS]) {
        return;
    }
    let identities = Identities::new(&["web1"]);
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Running::microsocks();
    let node = client(&identities, "web1", nobody)
        .set("RP_CLIENT_PROXY", format!("socks5://me:SECRET@{}", proxy.address))
        .start();
    node.wait_log(&["not connected: socks5://127.0.0.1:", "the proxy refused: the host refused"]);
    let node = client(&identities, "web1", nobody)
        .set("RP_CLIENT_PROXY", format!("http://me:SECRET@{nobody}"))
        .start();
    node.wait_log(&[&format!("not connected: the proxy http://{nobody}: {nobody}: "), "refused"]);
    assert_no_secret(&node);
}

#[test]
fn no_proxy_leads_past_it() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let node = client(&identities, "web1", server.pipe())
        .set("RP_CLIENT_PROXY", "http://127.0.0.1:1")
        .set("NO_PROXY", format!("127.0.0.1:{}", server.pipe().port()))
        .start();
    node.get_when_up("/server/time");
}

#[test]
fn each_of_several_servers_is_reached_its_own_way() {
    if !has_all(&[MICROSOCKS]) {
        return;
    }
    let identities = Identities::new(&["web1"]);
    let [near, far] = [0, 1].map(|_| server(&identities).start());
    let proxy = Running::microsocks();
    let node = client(&identities, "web1", near.pipe())
        .set("RP_CLIENT_TARGET_HOSTNAME", format!("{},{}", near.pipe(), far.pipe()))
        .set("RP_CLIENT_TARGETS", "all")
        .set("RP_CLIENT_PROXY", format!("socks5://me:SECRET@{}", proxy.address))
        .set("NO_PROXY", near.pipe())
        .start();
    for server in [&near, &far] {
        server.get_when_up("/client/web1/time");
    }
    let through = format!("{} through socks5://{}", far.pipe(), proxy.address);
    node.wait_log(&[&format!("connected to {through}")]);
    let links = node.get("/status").json()["links"].clone();
    let mut targets: Vec<_> =
        links.as_array().unwrap().iter().map(|link| &link["target"]).collect();
    targets.sort_by_key(|target| target.to_string().len());
    assert_eq!(targets, [&near.pipe().to_string(), &through]);
    assert_no_secret(&node);
}
