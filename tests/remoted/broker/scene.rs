//! A broker, and raw sockets that speak like the original's ends.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use restpipe::config::{Bind, BrokerConfig, Environment};
use restpipe::remoted::broker::{Broker, BrokerSettings};
use restpipe::remoted::keys;
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::PATIENCE;

/// A file of keys in a directory of its own.
pub struct Keys {
    dir: tempfile::TempDir,
    pub server: String,
    pub client: String,
}

impl Keys {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("remoted.json");
        keys::create(&file).unwrap();
        let keys: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let key = |name: &str| keys[name].as_str().unwrap().to_owned();
        Self { dir, server: key("server_apikey"), client: key("client_apikey") }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("remoted.json")
    }

    /// With additional keys, each as an entry of `keys`.
    pub fn write(&self, more: &[Value]) {
        let file = serde_json::json!({
            "server_apikey": self.server, "client_apikey": self.client, "keys": more,
        });
        std::fs::write(self.file(), file.to_string()).unwrap();
    }
}

/// An entry of `keys`.
pub fn entry(name: &str, role: &str, path: &str, key: &str) -> Value {
    use aws_lc_rs::digest::{SHA256, digest};
    let sum = digest(&SHA256, key.as_bytes());
    let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({"name": name, "role": role, "paths": [path], "sha256": hex})
}

/// A broker in this process.
pub struct Scene {
    /// Stopped when dropped.
    _broker: Broker,
    pub keys: Keys,
    pub address: SocketAddr,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// With modified times or bounds.
    pub fn with(change: impl FnOnce(&mut BrokerSettings)) -> Self {
        Self::of(Keys::new(), change)
    }

    pub fn of(keys: Keys, change: impl FnOnce(&mut BrokerSettings)) -> Self {
        let file = keys.file();
        let env = Environment::from_pairs([
            ("RP_REMOTED_BIND", "127.0.0.1:0"),
            ("RP_REMOTED_CONFIG", file.to_str().unwrap()),
        ]);
        let mut settings = BrokerSettings::new(BrokerConfig::from_environment(&env).unwrap().0);
        change(&mut settings);
        let broker = Broker::start(settings).unwrap();
        let Bind::Tcp(address) = *broker.address() else { panic!("not TCP") };
        Self { _broker: broker, keys, address }
    }

    pub fn ends(&self) -> Ends<'_> {
        Ends { address: self.address, keys: &self.keys }
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    pub fn register(&self, path: &str) -> Wire {
        self.ends().register(path)
    }

    pub fn call(&self, path: &str, id: &str) -> Wire {
        self.ends().call(path, id)
    }

    pub fn join(&self, path: &str, id: &str) -> Wire {
        self.ends().join(path, id)
    }

    pub fn join_as_original(&self, path: &str, id: &str) -> Wire {
        self.ends().join_as_original(path, id)
    }

    pub fn joined(&self, path: &str, id: &str) -> (Wire, Wire) {
        self.ends().joined(path, id)
    }
}

/// Callers and servers of a broker at this address.
#[derive(Clone, Copy)]
pub struct Ends<'a> {
    pub address: SocketAddr,
    pub keys: &'a Keys,
}

impl Ends<'_> {
    /// A server registered on this path.
    pub fn register(&self, path: &str) -> Wire {
        let mut server = Wire::connect(self.address);
        server.send(websocket(path, &self.keys.server));
        let head = server.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        server
    }

    /// A caller that waits or was refused.
    pub fn call(&self, path: &str, id: &str) -> Wire {
        let mut caller = Wire::connect(self.address);
        caller.send(webroute(path, id, &self.keys.client));
        caller
    }

    /// A server that joins a caller, and keeps bytes that arrive together with its 101.
    pub fn join(&self, path: &str, id: &str) -> Wire {
        let mut server = Wire::connect(self.address);
        let request = webroute(path, id, &self.keys.server);
        server.send(request.replace("X-Remoted", "RP-Early-Bytes: kept\r\nX-Remoted"));
        server
    }

    /// A server that joins a caller, like the original's.
    pub fn join_as_original(&self, path: &str, id: &str) -> Wire {
        let mut server = Wire::connect(self.address);
        server.send(webroute(path, id, &self.keys.server));
        server
    }

    /// A caller and its server, after their 101s. The path must have a server.
    pub fn joined(&self, path: &str, id: &str) -> (Wire, Wire) {
        let mut caller = self.call(path, id);
        let mut server = self.meet(path, id);
        for end in [&mut caller, &mut server] {
            let head = end.head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        }
        (caller, server)
    }

    /// A server that joins as soon as its caller waits: without a notice it retries.
    pub fn meet(&self, path: &str, id: &str) -> Wire {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut server = self.join(path, id);
            let head = server.peek_head();
            if head.starts_with("HTTP/1.1 101 ") {
                return server;
            }
            assert!(head.starts_with("HTTP/1.1 400 ") && Instant::now() < until, "{head}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A server's request for a path, like the original's.
pub fn websocket(path: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nOrigin: http://localhost\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         X-Remoted-APIKey: {key}\r\n\r\n"
    )
}

/// A caller's request, or a server's for a caller, like the original's.
pub fn webroute(path: &str, id: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: webroute\r\nWebRoute-Version: 1\r\nWebRoute-ID: {id}\r\n\
         WebRoute-Timeout: 60\r\nX-Remoted-APIKey: {key}\r\n\r\n"
    )
}

/// A masked frame, as a client sends it (RFC 6455, section 5.2). `first` is FIN and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend((long as u16).to_be_bytes());
        }
    }
    bytes.extend([1, 2, 3, 4]);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ (at % 4 + 1) as u8));
    bytes
}

/// A raw connection.
pub struct Wire {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// From this local address.
    pub fn connect_from(own: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    pub fn end(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads up to the end of a head.
    pub fn head(&mut self) -> String {
        let head = self.peek_head();
        self.buffer.drain(..head.len());
        head
    }

    /// As `head`, without consuming it.
    pub fn peek_head(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.buffer[..at + 4].to_vec()).unwrap();
            }
            assert!(self.fill() > 0, "the end, after {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Reads a whole answer: head and body.
    pub fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let body = self.read(length.unwrap_or("0").parse().unwrap());
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads exactly this many bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill() > 0, "the end, after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads a frame from the broker: FIN and opcode, and the payload. It must not be masked.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.read(2);
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(self.read(2).try_into().unwrap())),
            short => usize::from(short),
        };
        assert!(length < 0x80 || head[1] == 126, "masked, or endless: {head:?}");
        (head[0], self.read(length))
    }

    /// Reads a ping, and returns its payload.
    pub fn ping(&mut self) -> Vec<u8> {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x89);
        payload
    }

    /// The notice of the next caller.
    pub fn notice(&mut self) -> Value {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x81);
        serde_json::from_slice(&payload).unwrap()
    }

    /// What arrives next; empty at the end.
    pub fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.buffer)
    }

    /// Reads up to the end.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits for the end, which may be a reset.
    pub fn is_over(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    fn fill(&mut self) -> usize {
        let mut piece = [0; 4096];
        let count = self.socket.read(&mut piece).unwrap();
        self.buffer.extend_from_slice(&piece[..count]);
        count
    }
}
