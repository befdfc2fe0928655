//! A real broker, its servers and callers, and programs to test them with.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::remoted;
use crate::support::{Identities, Node, PATIENCE};

/// A broker as a process.
pub struct Broker {
    node: Node,
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
    is_tls: bool,
    servers: String,
    callers: String,
}

impl Broker {
    /// With additional environment variables.
    pub fn start(environment: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("remoted.json");
        let made = remoted(&["keys", file.to_str().unwrap()]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let keys: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let key = |name: &str| keys[name].as_str().unwrap().to_owned();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let command = Self::command(&dir, &environment, "127.0.0.1:0");
        Self {
            node: Node::start(command),
            servers: key("server_apikey"),
            callers: key("client_apikey"),
            is_tls: environment.iter().any(|(name, _)| name == "RP_REMOTED_CRT"),
            dir,
            environment,
        }
    }

    /// With the identity of `localhost`.
    pub fn start_tls(identities: &Identities) -> Self {
        let file = |name: &str| identities.path(name).to_str().unwrap().to_owned();
        Self::start(&[
            ("RP_REMOTED_CRT", file("localhost.crt.pem")),
            ("RP_REMOTED_KEY", file("localhost.key.pem")),
        ])
    }

    fn command(dir: &tempfile::TempDir, environment: &[(String, String)], bind: &str) -> Command {
        let mut command = remoted(&["broker"]);
        command
            .env("RP_REMOTED_BIND", bind)
            .env("RP_REMOTED_CONFIG", dir.path().join("remoted.json"))
            .envs(environment.iter().cloned());
        command
    }

    pub fn address(&self) -> SocketAddr {
        self.node.ready("remoted").parse().unwrap()
    }

    pub fn servers(&self) -> &str {
        &self.servers
    }

    pub fn callers(&self) -> &str {
        &self.callers
    }

    /// The host is `localhost`, the name in the certificate, for TLS.
    pub fn url(&self, scheme: &str, key: &str, path: &str) -> String {
        let address = self.address();
        let host = if self.is_tls { "localhost".to_owned() } else { address.ip().to_string() };
        format!("{scheme}://{key}@{host}:{}{path}", address.port())
    }

    pub fn wait_log(&self, parts: &[&str]) {
        self.node.wait_log(parts);
    }

    /// The command of a server of this path, with its key in the environment.
    pub fn server(&self, path: &str, to: &str, more: &[&str]) -> Command {
        let url = self.keyless(if self.is_tls { "rwss" } else { "rws" }, path);
        let mut command = remoted(&[&["publish", &url, "--to", to], more].concat());
        command.env("RP_REMOTED_APIKEY", &self.servers).env("DEBUG", "1");
        command
    }

    /// The command of a caller of this path, with its key in the environment.
    pub fn caller(&self, path: &str, more: &[&str]) -> Command {
        let url = self.keyless(if self.is_tls { "rwrs" } else { "rwr" }, path);
        let mut command = remoted(&[&["connect", &url], more].concat());
        command.env("RP_REMOTED_APIKEY", &self.callers);
        command
    }

    pub fn publish(&self, path: &str, to: &str, more: &[&str]) -> Node {
        let node = Node::launch(self.server(path, to, more));
        assert_eq!(node.next_line(), format!("ready published={path}"));
        node
    }

    pub fn connect(&self, path: &str, more: &[&str]) -> Node {
        Node::start(self.caller(path, &[&["--listen", "127.0.0.1:0"], more].concat()))
    }

    fn keyless(&self, scheme: &str, path: &str) -> String {
        self.url(scheme, "", path).replace("://@", "://")
    }

    pub fn signal(&self, name: &str) {
        self.node.signal(name);
    }

    pub fn kill(&mut self) {
        self.node.signal("KILL");
        self.node.wait_exit();
    }

    /// On the same port.
    pub fn restart(&mut self) {
        let bind = self.address().to_string();
        self.node = Node::start(Self::command(&self.dir, &self.environment, &bind));
    }
}

/// A server that echoes its input.
pub struct Echo {
    address: SocketAddr,
}

impl Echo {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        // Runs until the process ends.
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut from = socket.try_clone().unwrap();
                    let _ = std::io::copy(&mut from, &mut &socket);
                    let _ = socket.shutdown(Shutdown::Write);
                });
            }
        });
        Self { address }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Asserts that this many bytes come back unchanged.
pub fn echoes(address: &str, count: usize) {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..count).map(|at| (at * 31 + at / 251) as u8).collect();
    let mut back = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&socket).write_all(&sent).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        });
        (&socket).read_to_end(&mut back).unwrap();
    });
    assert!(back == sent, "{} of {count} bytes came back, or others", back.len());
}

/// A process that is killed on drop.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a server listens there.
pub fn wait_listening(port: u16) {
    wait_until("somebody listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
}

pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "it never is so that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
