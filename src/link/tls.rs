//! One TLS connection for two threads. The only file that names `rustls::Connection`.
//!
//! In scope: the handshake with its deadline, plaintext to ciphertext and back. Not in scope:
//! when the socket is read or written after the handshake, and by whom.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// Plaintext of one TLS record at most (RFC 8446, section 5.1).
pub const RECORD: usize = 16 * 1024;

/// A TLS connection after its handshake.
pub struct Tls {
    /// Guards the TLS state, which the reader, the writer and askers share. No socket call and no
    /// wait may happen while it is held: a peer that neither reads nor writes would stop all three.
    connection: Mutex<Connection>,
}

/// What [`Tls::open`] found besides plaintext.
pub struct Opened {
    /// The peer has said that nothing more comes.
    pub peer_closed: bool,
    /// TLS has something of its own to send: see [`Tls::flush`].
    pub wants_flush: bool,
}

impl Tls {
    /// Shakes hands as the server. Returns the connection and the client's verified certificate.
    pub fn accept(
        config: Arc<ServerConfig>,
        socket: &TcpStream,
        deadline: Instant,
    ) -> Result<(Self, CertificateDer<'static>), HandshakeError> {
        let connection = ServerConnection::new(config).map_err(HandshakeError::Tls)?;
        Self::shake_hands(connection.into(), socket, deadline)
    }

    /// Shakes hands as the client. Returns the connection and the server's verified certificate.
    /// In TLS 1.3 the server has not judged our certificate yet when this returns.
    pub fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        socket: &TcpStream,
        deadline: Instant,
    ) -> Result<(Self, CertificateDer<'static>), HandshakeError> {
        let connection = ClientConnection::new(config, name).map_err(HandshakeError::Tls)?;
        Self::shake_hands(connection.into(), socket, deadline)
    }

    fn shake_hands(
        mut connection: Connection,
        mut socket: &TcpStream,
        deadline: Instant,
    ) -> Result<(Self, CertificateDer<'static>), HandshakeError> {
        socket.set_read_timeout(None)?;
        loop {
            while connection.wants_write() {
                let left = time_left(deadline)?;
                socket.set_write_timeout(Some(left))?;
                connection.write_tls(&mut socket)?;
            }
            if !connection.is_handshaking() {
                break;
            }
            socket.set_read_timeout(Some(time_left(deadline)?))?;
            if connection.read_tls(&mut socket)? == 0 {
                return Err(HandshakeError::Closed);
            }
            if let Err(error) = connection.process_new_packets() {
                // The alert tells the peer why; that it may not arrive is no second error.
                let _ = connection.write_tls(&mut socket);
                return Err(HandshakeError::Tls(error));
            }
        }
        socket.set_read_timeout(None)?;
        let certificate = connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or(HandshakeError::NoCertificate)?
            .clone()
            .into_owned();
        Ok((Self { connection: Mutex::new(connection) }, certificate))
    }

    /// Decrypts what the socket gave and appends the plaintext to `plain`. Bytes that came with
    /// the end of the handshake are given out at the first call, so call it once with nothing.
    ///
    /// After an error an alert waits to be flushed.
    pub fn open(&self, mut cipher: &[u8], plain: &mut Vec<u8>) -> Result<Opened, rustls::Error> {
        let mut connection = self.lock();
        loop {
            if !cipher.is_empty() {
                // From a slice the only error is a full buffer, which processing empties.
                let _ = connection.read_tls(&mut cipher);
            }
            let state = connection.process_new_packets()?;
            let ready = state.plaintext_bytes_to_read();
            if ready > 0 {
                let at = plain.len();
                plain.resize(at + ready, 0);
                if connection.reader().read_exact(&mut plain[at..]).is_err() {
                    return Err(rustls::Error::General("plaintext went missing".into()));
                }
            }
            if cipher.is_empty() || state.peer_has_closed() {
                return Ok(Opened {
                    peer_closed: state.peer_has_closed(),
                    wants_flush: connection.wants_write(),
                });
            }
        }
    }

    /// Encrypts `plain` as one record (it holds at most `RECORD` bytes) and appends the ciphertext
    /// to `cipher`. Ciphertext must reach the socket in the order in which it was taken.
    pub fn seal(&self, plain: &[u8], cipher: &mut Vec<u8>) -> io::Result<()> {
        let mut connection = self.lock();
        connection.writer().write_all(plain)?;
        drain(&mut connection, cipher)
    }

    /// Appends to `cipher` what TLS has to send of its own: alerts, key updates.
    pub fn flush(&self, cipher: &mut Vec<u8>) -> io::Result<()> {
        drain(&mut self.lock(), cipher)
    }

    /// Appends to `cipher` the proper end of the connection.
    pub fn close(&self, cipher: &mut Vec<u8>) -> io::Result<()> {
        let mut connection = self.lock();
        connection.send_close_notify();
        drain(&mut connection, cipher)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        crate::link::lock(&self.connection)
    }
}

fn drain(connection: &mut Connection, cipher: &mut Vec<u8>) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(cipher)?;
    }
    Ok(())
}

fn time_left(deadline: Instant) -> Result<std::time::Duration, HandshakeError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(HandshakeError::TimedOut) } else { Ok(left) }
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer did not finish it in time.
    TimedOut,
    /// The peer closed the connection instead of finishing it.
    Closed,
    /// The peer gave no certificate.
    NoCertificate,
    /// One side refused the other.
    Tls(rustls::Error),
    /// The socket failed.
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket's timeout is either, depending on the system.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => write!(f, "the TLS handshake was not finished in time"),
            Self::Closed => write!(f, "the peer closed the connection during the TLS handshake"),
            Self::NoCertificate => write!(f, "the peer gave no certificate"),
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::Io(error) => write!(f, "the connection failed during the TLS handshake: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}
