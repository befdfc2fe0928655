//! A scripted service, and two nodes of which one has it as its handler.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use restpipe::config::ServiceAddress;
use restpipe::handler::{Handler, Router, Service};

use crate::support::inside::Inside;
use crate::support::{Answer, Identities, PATIENCE, Setup, ask, client, parse_answer, server};

/// A service on a free port. Each connection to it is a visit, numbered from 0.
pub struct Scripted {
    pub address: SocketAddr,
    visits: Arc<AtomicUsize>,
}

impl Scripted {
    pub fn start(script: impl Fn(usize, &mut Visit) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&visits);
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                thread::spawn(move || script(number, &mut Visit::new(stream)));
            }
        });
        Self { address, visits }
    }

    /// Answers every request with the same bytes and closes.
    pub fn saying(reply: impl Into<Vec<u8>>) -> Self {
        let reply = reply.into();
        Self::start(move |_, visit| {
            if visit.request().is_some() {
                visit.send(&reply);
            }
        })
    }

    /// The number of connections so far.
    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }

    pub fn service(&self, prefix: &str) -> Service {
        Service::new(&self.at(prefix)).unwrap()
    }

    pub fn at(&self, prefix: &str) -> ServiceAddress {
        ServiceAddress::Tcp {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            prefix: prefix.to_owned(),
        }
    }
}

/// One connection to a scripted service.
pub struct Visit {
    pub stream: TcpStream,
}

impl Visit {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// The next head, with its empty line, each byte as the character of the same number; `None` if
    /// the caller closes.
    pub fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Ok(_) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}; so far {:?}", head.escape_ascii().to_string()),
            }
        }
        Some(head.into_iter().map(char::from).collect())
    }

    /// The next request with its body, by its `Content-Length` if present.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        Some((head, body))
    }

    /// Returns false if the caller has disconnected.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Waits until the caller closes, and returns how long that took and how many bytes arrived.
    pub fn wait_closed(&mut self) -> (Duration, usize) {
        let start = Instant::now();
        let mut bytes = 0;
        let mut buffer = vec![0; 65536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return (start.elapsed(), bytes),
                Ok(count) => bytes += count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return (start.elapsed(), bytes);
                }
                Err(error) => panic!("it stays open: {error}"),
            }
        }
    }
}

/// The value of a header field.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A reply with this body and its length.
pub fn reply(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A server, and its client `client-1` with a handler. Both are in this process.
pub struct Scene {
    pub server: Inside,
    _client: Inside,
}

/// The path prefix of the client.
pub const CLIENT: &str = "/client/client-1/";

impl Scene {
    pub fn new(handler: impl Handler + 'static) -> Self {
        Self::with(handler, |setup| setup)
    }

    /// With modified settings for both.
    pub fn with(handler: impl Handler + 'static, change: impl Fn(Setup) -> Setup) -> Self {
        let identities = Identities::new(&["client-1"]);
        let server = change(server(&identities)).serve(Router::new());
        let client = change(client(&identities, "client-1", server.pipe())).dial(handler);
        // Any answer means that they are connected.
        assert_eq!(client.get("/server/are-you-there").status, 404);
        Self { server, _client: client }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Sends a request for this path of the service, without its leading slash.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.server.http(), method, &format!("{CLIENT}{path}"), headers, body)
    }

    /// Opens a request with this first line; the test writes the rest.
    pub fn open(&self, line: &str, fields: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.server.http()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        socket
    }
}

/// All bytes until the connection closes.
pub fn read_all(mut socket: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    bytes
}

/// The status and the `error` of an answer.
pub fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

/// As [`read_all`], parsed.
pub fn read_answer(socket: TcpStream) -> Answer {
    parse_answer(&read_all(socket))
}
