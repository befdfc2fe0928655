//! A raw peer, in either role: it sends whatever a test tells it to, inside TLS and below it, and
//! sees in which TLS records the answers come.
//!
//! Nothing of the library is used here: the bytes are made by hand, so that a mistake in `wire`
//! cannot hide itself.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};

use super::{Identities, PATIENCE};

pub const HEARTBEAT: u8 = 0x01;
pub const EVENT: u8 = 0x02;
pub const HEARTBEAT_REPLY: u8 = 0x80;
pub const REPLY: u8 = 0x81;

/// Plaintext of one TLS record at most.
const RECORD: usize = 16 * 1024;

/// One end of a connection.
pub struct Peer {
    socket: TcpStream,
    tls: Connection,
    /// What was read from the socket and is no whole TLS record yet.
    cipher: Vec<u8>,
    /// Plaintext that was not taken as a frame yet.
    plain: Vec<u8>,
    /// How many bytes of plaintext were taken as frames.
    taken: usize,
    /// Where records ended, in bytes of plaintext since the start.
    record_ends: VecDeque<usize>,
    /// Where the last record ended that was taken as a whole.
    last_end: usize,
    /// Records after the handshake that held no plaintext: session tickets and the like.
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
    /// Whether it was alone in its one TLS record.
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
    /// With TLS's close.
    Properly,
    /// With the end of the TCP connection only.
    Abruptly(String),
    /// TLS failed; mostly this is the other side's alert.
    Tls(String),
}

impl Peer {
    /// Connects and shakes hands.
    pub fn dial(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self, Ended> {
        let socket = TcpStream::connect(address).map_err(abruptly)?;
        Self::over(socket, config)
    }

    /// Shakes hands as the client over this socket.
    pub fn over(socket: TcpStream, config: Arc<ClientConfig>) -> Result<Self, Ended> {
        let name = ServerName::try_from("localhost").unwrap();
        Self::shake_hands(socket, ClientConnection::new(config, name).unwrap().into())
    }

    /// Takes the next connection and shakes hands as the server.
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

    /// Records after the handshake that held no plaintext so far.
    pub fn silent_records(&self) -> usize {
        self.silent_records
    }

    /// Sends plaintext in as few records as there can be.
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

    /// Sends TLS's close.
    pub fn close(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush()
    }

    /// Ends the TCP connection's own direction, without a word of TLS.
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

    /// The next message of this type; answers heartbeats before it as an original does.
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

    /// The next message, if one comes in this time.
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

    /// Reads until the other side ends the connection, and says how it did.
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

    /// Reads one TLS record, or notes how the connection ended. False when neither came in time.
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

/// The next connection, with a deadline.
pub fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).unwrap();
                return socket;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < until, "nobody connects");
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The settings of a client that presents this identity, or none, and takes any server: as the
/// original, which checks nothing and names nobody.
pub fn dialing(identity: Option<(&Identities, &str)>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((identities, name)) => {
            let (chain, key) = read_identity(identities, name);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.enable_sni = false;
    Arc::new(config)
}

/// The settings of a server that presents this identity and takes any client of the same CA: as
/// the original, session tickets included.
pub fn accepting(identities: &Identities, name: &str) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(identities.path("ca.crt.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let (chain, key) = read_identity(identities, name);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.send_tls13_tickets = 2;
    Arc::new(config)
}

fn read_identity(
    identities: &Identities,
    name: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let crt = identities.path(&format!("{name}.crt.pem"));
    let key = identities.path(&format!("{name}.key.pem"));
    (vec![CertificateDer::from_pem_file(crt).unwrap()], PrivateKeyDer::from_pem_file(key).unwrap())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes an identity that `rp_ca` would not: X.509 v3 with a common name and nothing else, as the
/// original's documents have it, changed by `change`.
pub fn issue(identities: &Identities, name: &str, change: impl FnOnce(&mut CertificateParams)) {
    let ca_key = fs::read_to_string(identities.path("ca.key.pem")).unwrap();
    let ca_crt = fs::read_to_string(identities.path("ca.crt.pem")).unwrap();
    let ca_key = KeyPair::from_pem(&ca_key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca_crt, ca_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let crt = params.signed_by(&key, &issuer).unwrap();
    fs::write(identities.path(&format!("{name}.key.pem")), key.serialize_pem()).unwrap();
    fs::write(identities.path(&format!("{name}.crt.pem")), crt.pem()).unwrap();
}

/// Any message.
pub fn message(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A heartbeat of the original.
pub fn heartbeat(id: u32) -> Vec<u8> {
    message(HEARTBEAT, id, &[8, 1])
}

/// The original's answer to one.
pub fn heartbeat_reply(id: u32) -> Vec<u8> {
    message(HEARTBEAT_REPLY, id, &[8, 1])
}

/// An event of the original without a media type.
pub fn event(id: u32, verb: &str, noun: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![8, 1];
    for (field, bytes) in [(2, verb.as_bytes()), (3, noun.as_bytes()), (4, b""), (5, data)] {
        push_bytes(&mut body, field, bytes);
    }
    message(EVENT, id, &body)
}

/// A reply of the original.
pub fn reply(id: u32, media_type: &str, code: u64, data: &[u8]) -> Vec<u8> {
    let mut body = vec![8, 1];
    push_bytes(&mut body, 2, media_type.as_bytes());
    body.push(3 << 3);
    push_number(&mut body, code);
    push_bytes(&mut body, 4, data);
    message(REPLY, id, &body)
}

fn push_bytes(body: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    body.push(field << 3 | 2);
    push_number(body, bytes.len() as u64);
    body.extend_from_slice(bytes);
}

fn push_number(body: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        body.push(number as u8 | 0x80);
        number >>= 7;
    }
    body.push(number as u8);
}

/// Takes any server for the right one.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
