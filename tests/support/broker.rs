//! A broker played by the test: raw sockets, and bytes recorded from the original.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::SockRef;

use super::PATIENCE;
use super::port::accept;

/// The recorded id, and its accept value.
pub const ID: &str = "Zw1BTNkHbth2XqMg8AlKWwLegXUFWFw6i2c4QLvNxGfWPv9bcthU1tNPokn4QkyI";
pub const ACCEPT: &str = "nZJBek4mnWf3Wd8JD7hBrU/97CI=";
/// The key that tests use; no output may contain it.
pub const KEY: &str = "SECRETaZ09";

/// `rp_remoted` with these arguments and an empty environment.
pub fn remoted(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rp_remoted"));
    command.args(arguments).env_clear();
    command
}

/// The listener of the test's broker.
pub struct Broker {
    listener: TcpListener,
}

impl Broker {
    pub fn new() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// `scheme://KEY@HOST:PORT/path`.
    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{KEY}@{}{path}", self.address())
    }

    /// The next visitor.
    pub fn accept(&self) -> Visitor {
        Visitor::from(accept(&self.listener))
    }

    /// Accepts the next visitor, which must register this path, and answers with 101.
    pub fn accept_registration(&self, path: &str) -> Visitor {
        let mut visitor = self.accept();
        let head = visitor.head();
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
        visitor.welcome_websocket(&head);
        visitor
    }
}

/// One connection to a broker or any other server that the test plays.
pub struct Visitor {
    pub socket: TcpStream,
}

impl From<TcpStream> for Visitor {
    fn from(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket }
    }
}

impl Visitor {
    /// Reads a request head.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read(1));
        }
        String::from_utf8(head).unwrap()
    }

    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads until the end of the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.socket.read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Asserts that nothing arrives for a while.
    pub fn says_nothing(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let error = self.socket.read(&mut [0; 1]).expect_err("it says something, or has ended");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Waits for the end of the connection, whatever arrives before and however it ends.
    pub fn waits_for_end(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                // A read with a timeout is not restarted after a process was stopped and continued (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("it does not end: {error}"),
            }
        }
    }

    pub fn ends_writing(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Accepts a server's registration.
    pub fn welcome_websocket(&mut self, head: &str) {
        let key = field(head, "Sec-WebSocket-Key");
        let accept = restpipe::remoted::head::websocket_accept(key);
        self.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
    }

    /// Accepts a WebRoute; `early` goes out in the same segment as the answer.
    pub fn welcome_webroute(&mut self, head: &str, early: &str) {
        let accept = restpipe::remoted::head::webroute_accept(field(head, "WebRoute-ID"));
        self.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webroute\r\nConnection: Upgrade\r\n\
             Sec-WebRoute-Accept: {accept}\r\n\r\n{early}"
        ));
    }

    /// Sends a notice of a caller, as the original does.
    pub fn notify(&mut self, id: &str) {
        self.write(text_frame(
            format!(r#"{{"ipaddr":"192.0.2.7:32828","id":"{id}","timeout":60}}"#).as_bytes(),
        ));
    }
}

/// An unmasked text frame (RFC 6455, section 5.2).
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    frame(0x81, payload)
}

/// An unmasked frame with this first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65_536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The value of a header field.
pub fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in {head}"))
}
