//! A raw peer in either role: sends whatever a test wants, inside TLS and below it, and sees how
//! the answers are cut into TLS records.
//!
//! Uses nothing of the library: the bytes are handmade, so that a bug in `wire` cannot hide itself.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::PATIENCE;
use super::message::{HEARTBEAT, heartbeat_reply, message};
use super::port::accept;

/// Maximum plaintext of one TLS record.
const RECORD: usize = 16 * 1024;

/// One end of a connection.
pub struct Peer {
    socket: TcpStream,
    tls: Connection,
    /// Bytes read from the socket that are not yet a whole TLS record.
    cipher: Vec<u8>,
    /// Plaintext not yet consumed as frames.
    plain: Vec<u8>,
    /// Bytes of plaintext consumed as frames.
    taken: usize,
    /// The ends of records, in bytes of plaintext since the start.
    record_ends: VecDeque<usize>,
    /// The end of the last record that was consumed whole.
    last_end: usize,
    /// Records after the handshake without plaintext, such as session tickets.
    silent_records: usize,
    ended: Option<Ended>,
    pub connected: Instant,
}

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
    pub body: Vec<u8>,
    /// Whether it filled exactly one TLS record.
    pub alone: bool,
}

impl Frame {
    /// The whole message.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = message(self.kind, self.id, &self.body);
        bytes[1] = self.flags;
        bytes
    }
}

/// How the other side ended the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With close_notify.
    Properly,
    /// Without close_notify: the TCP connection ended.
    Abruptly(String),
    /// TLS failed, usually because of an alert from the other side.
    Tls(String),
}

impl Peer {
    /// Connects and completes the handshake.
    pub fn dial(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self, Ended> {
        let socket = TcpStream::connect(address).map_err(abruptly)?;
        Self::over(socket, config)
    }

    /// Completes the handshake as the client over this socket.
    pub fn over(socket: TcpStream, config: Arc<ClientConfig>) -> Result<Self, Ended> {
        let name = ServerName::try_from("localhost").unwrap();
        Self::shake_hands(socket, ClientConnection::new(config, name).unwrap().into())
    }

    /// Accepts the next connection and completes the handshake as the server.
    pub fn accept(listener: &TcpListener, config: Arc<ServerConfig>) -> Result<Self, Ended> {
        Self::shake_hands(accept(listener), ServerConnection::new(config).unwrap().into())
    }

    fn shake_hands(socket: TcpStream, tls: Connection) -> Result<Self, Ended> {
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self {
            socket,
            tls,
            cipher: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            record_ends: VecDeque::new(),
            last_end: 0,
            silent_records: 0,
            ended: None,
            connected: Instant::now(),
        };
        let until = Instant::now() + PATIENCE;
        loop {
            peer.flush().map_err(abruptly)?;
            if !peer.tls.is_handshaking() {
                break;
            }
            assert!(peer.take_record(until), "the handshake takes too long");
            if let Some(ended) = &peer.ended {
                return Err(ended.clone());
            }
        }
        peer.silent_records = 0;
        Ok(peer)
    }

    pub fn local_port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// The connection below TLS.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Records since the handshake without plaintext.
    pub fn silent_records(&self) -> usize {
        self.silent_records
    }

    /// Sends plaintext in as few records as possible.
    pub fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        self.send_cut(plain, RECORD)
    }

    /// Sends plaintext in records of this length.
    pub fn send_cut(&mut self, plain: &[u8], length: usize) -> io::Result<()> {
        for record in plain.chunks(length) {
            self.tls.writer().write_all(record)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Sends close_notify.
    pub fn close(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush()
    }

    /// Shuts down the writing side of the TCP connection, without close_notify.
    pub fn hang_up(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// The next message; there must be one.
    pub fn frame(&mut self) -> Frame {
        match self.frame_within(PATIENCE) {
            Some(frame) => frame,
            None => panic!("no message; {:?}", self.ended),
        }
    }

    /// The next message of this type; answers heartbeats that come before it, as an original does.
    pub fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame();
            if frame.kind == kind {
                return frame;
            }
            match frame.kind {
                HEARTBEAT => self.send(&heartbeat_reply(frame.id)).unwrap(),
                _ => panic!("not expected: {frame:02x?}"),
            }
        }
    }

    /// The next message, if one arrives within this time.
    pub fn frame_within(&mut self, time: Duration) -> Option<Frame> {
        let until = Instant::now() + time;
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if self.ended.is_some() || !self.take_record(until) {
                return None;
            }
        }
    }

    /// Reads until the other side ends the connection, and returns how it did.
    pub fn wait_end(&mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = &self.ended {
                return ended.clone();
            }
            assert!(self.take_record(until), "the connection is not closed");
            self.plain.clear();
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (header, rest) = self.plain.split_first_chunk::<10>()?;
        let [kind, flags, l0, l1, l2, l3, i0, i1, i2, i3] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let body = rest.get(..length)?.to_vec();
        self.plain.drain(..10 + length);
        let start = self.taken;
        self.taken += 10 + length;
        let alone = self.last_end == start && self.record_ends.front() == Some(&self.taken);
        while self.record_ends.front().is_some_and(|end| *end <= self.taken) {
            self.last_end = self.record_ends.pop_front().unwrap();
        }
        Some(Frame { kind, flags, id: u32::from_be_bytes([i0, i1, i2, i3]), body, alone })
    }

    /// Reads one TLS record, or records how the connection ended. False if neither happened by `until`.
    fn take_record(&mut self, until: Instant) -> bool {
        let record = loop {
            let length = self
                .cipher
                .get(3..5)
                .map(|length| 5 + usize::from(u16::from_be_bytes([length[0], length[1]])));
            if let Some(length) = length
                && self.cipher.len() >= length
            {
                break self.cipher.drain(..length).collect::<Vec<u8>>();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 32 * 1024];
            match self.socket.read(&mut chunk) {
                Ok(0) => {
                    self.ended = Some(Ended::Abruptly("end of the connection".to_owned()));
                    return true;
                }
                Ok(count) => self.cipher.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // A read with a timeout is interrupted even by a stop of the process.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = Some(abruptly(error));
                    return true;
                }
            }
        };
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).unwrap();
        }
        match self.tls.process_new_packets() {
            Err(error) => self.ended = Some(Ended::Tls(error.to_string())),
            Ok(state) if state.peer_has_closed() => self.ended = Some(Ended::Properly),
            Ok(state) if state.plaintext_bytes_to_read() == 0 => self.silent_records += 1,
            Ok(state) => {
                let at = self.plain.len();
                self.plain.resize(at + state.plaintext_bytes_to_read(), 0);
                self.tls.reader().read_exact(&mut self.plain[at..]).unwrap();
                self.record_ends.push_back(self.taken + self.plain.len());
            }
        }
        true
    }
}

fn abruptly(error: io::Error) -> Ended {
    Ended::Abruptly(error.to_string())
}
