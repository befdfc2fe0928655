//! A TLS connection shared by several threads. The only file that names `rustls::Connection`.
//!
//! In scope: the handshake with its deadline, encryption and decryption. Not in scope: when and by
//! whom the socket is read or written after the handshake.

use std::fmt::{self, Write as _};
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
};

use crate::identity::TRIAL_ALPN;

/// Maximum plaintext of one TLS record (RFC 8446, section 5.1).
pub const RECORD: usize = 16 * 1024;

/// Maximum size of one socket read during the handshake.
const HANDSHAKE_READ_SIZE: usize = 4096;
/// How long a refused peer has to read the alert.
const LINGER: Duration = Duration::from_secs(1);
/// Maximum bytes that a refused peer may still send meanwhile.
const LINGER_BYTES: usize = 256 * 1024;
/// The answer to a peer that speaks HTTP.
const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 78\r\nConnection: close\r\n\r\n\
    This is the pipe port of a RestPipe server. HTTP is spoken on its local port.\n";

/// A TLS connection after its handshake. The reader, the writer and requesting threads share it
/// behind a lock. That lock is never held across a socket call or a wait: a peer that neither reads
/// nor writes would stop all of them.
pub struct LinkTls {
    connection: Connection,
}

/// What [`LinkTls::open`] found besides plaintext.
pub struct Opened {
    /// The peer has closed its sending side.
    pub peer_closed: bool,
    /// TLS has something to send: see [`LinkTls::flush`].
    pub wants_flush: bool,
}

impl LinkTls {
    /// Performs the handshake as the server. Returns the connection and the client's certificate
    /// chain, end-entity certificate first; that one is verified.
    pub fn accept(
        config: Arc<ServerConfig>,
        socket: &TcpStream,
        deadline: Instant,
    ) -> Result<(Self, Vec<CertificateDer<'static>>), HandshakeError> {
        let connection = ServerConnection::new(config).map_err(HandshakeError::Tls)?;
        Self::shake_hands(connection.into(), socket, deadline, false)
    }

    /// Performs the handshake as the client. Returns the connection and the server's certificate
    /// chain, end-entity certificate first; that one is verified. In TLS 1.3 the server has not yet
    /// verified our certificate when this returns.
    pub fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        socket: &TcpStream,
        deadline: Instant,
    ) -> Result<(Self, Vec<CertificateDer<'static>>), HandshakeError> {
        let is_trial = config.alpn_protocols.iter().any(|protocol| protocol == TRIAL_ALPN);
        let connection = ClientConnection::new(config, name).map_err(HandshakeError::Tls)?;
        Self::shake_hands(connection.into(), socket, deadline, is_trial)
    }

    fn shake_hands(
        mut connection: Connection,
        mut socket: &TcpStream,
        deadline: Instant,
        is_trial: bool,
    ) -> Result<(Self, Vec<CertificateDer<'static>>), HandshakeError> {
        socket.set_read_timeout(None)?;
        let is_server = matches!(connection, Connection::Server(_));
        let lacks_trials = |connection: &Connection| {
            is_trial
                && !connection.is_handshaking()
                && connection.alpn_protocol() != Some(TRIAL_ALPN)
        };
        let mut is_first = true;
        let mut received = vec![0; HANDSHAKE_READ_SIZE];
        loop {
            if lacks_trials(&connection) {
                return Err(HandshakeError::NoTrials);
            }
            while connection.wants_write() {
                let left = time_left(deadline)?;
                socket.set_write_timeout(Some(left))?;
                unless_interrupted(connection.write_tls(&mut socket))?;
            }
            if !connection.is_handshaking() {
                break;
            }
            socket.set_read_timeout(Some(time_left(deadline)?))?;
            let count = match unless_interrupted(socket.read(&mut received))? {
                None => continue,
                Some(0) => return Err(HandshakeError::Closed),
                Some(count) => count,
            };
            if std::mem::take(&mut is_first) {
                let first = &received[..count];
                if is_server && is_http(first) {
                    let _ = socket.write_all(NOT_HTTP);
                    linger(socket, deadline);
                    return Err(HandshakeError::PlainHttp);
                }
                if !is_server && first.starts_with(b"HTTP/") {
                    return Err(HandshakeError::HttpServer);
                }
            }
            let mut cipher = &received[..count];
            while !cipher.is_empty() {
                // From a slice the only error is a full buffer, which processing empties.
                let taken = connection.read_tls(&mut cipher);
                if let Err(error) = connection.process_new_packets() {
                    // Best effort: the alert tells the peer why the handshake failed.
                    let _ = connection.write_tls(&mut socket);
                    linger(socket, deadline);
                    return Err(HandshakeError::from_tls(error, is_server));
                }
                taken?;
            }
        }
        // The time for computations that the peer caused counts too.
        time_left(deadline)?;
        socket.set_read_timeout(None)?;
        let chain = connection.peer_certificates().ok_or(HandshakeError::NoCertificate)?;
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Ok((Self { connection }, chain))
    }

    /// Decrypts received bytes and appends the plaintext to `plain`. Call it once without bytes to
    /// get the plaintext that arrived with the end of the handshake.
    ///
    /// After an error an alert has to be flushed.
    pub fn open(
        &mut self,
        mut cipher: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<Opened, rustls::Error> {
        let connection = &mut self.connection;
        loop {
            if !cipher.is_empty() {
                // From a slice the only error is a full buffer, which processing empties.
                let _ = connection.read_tls(&mut cipher);
            }
            let state = connection.process_new_packets()?;
            take_plaintext(connection, state.plaintext_bytes_to_read(), plain)?;
            if cipher.is_empty() || state.peer_has_closed() {
                return Ok(Opened {
                    peer_closed: state.peer_has_closed(),
                    wants_flush: connection.wants_write(),
                });
            }
        }
    }

    /// Encrypts `plain` (at most `RECORD` bytes) as one record and appends the ciphertext to
    /// `cipher`. Ciphertext must reach the socket in the order in which it was produced.
    pub fn seal(&mut self, plain: &[u8], cipher: &mut Vec<u8>) -> io::Result<()> {
        self.connection.writer().write_all(plain)?;
        self.flush(cipher)
    }

    /// Appends what TLS itself has to send to `cipher`: alerts, key updates.
    pub fn flush(&mut self, cipher: &mut Vec<u8>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(cipher)?;
        }
        Ok(())
    }

    /// Appends a close_notify to `cipher`.
    pub fn close(&mut self, cipher: &mut Vec<u8>) -> io::Result<()> {
        self.connection.send_close_notify();
        self.flush(cipher)
    }

    /// A connection whose handshake has not begun.
    #[cfg(test)]
    pub fn unconnected() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from("peer").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Self { connection: connection.into() }
    }

    /// Whether this is a trial connection and not a pipe: see [`trial`](super::trial).
    pub fn is_trial(&self) -> bool {
        self.connection.alpn_protocol() == Some(TRIAL_ALPN)
    }
}

/// Appends `count` bytes of available plaintext to `plain`.
fn take_plaintext(
    connection: &mut Connection,
    mut ready: usize,
    plain: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let mut reader = connection.reader();
    plain.reserve(ready);
    while ready > 0 {
        let count = match reader.fill_buf() {
            Ok(bytes) if !bytes.is_empty() => {
                plain.extend_from_slice(bytes);
                bytes.len()
            }
            Ok(_) | Err(_) => return Err(rustls::Error::General("plaintext went missing".into())),
        };
        reader.consume(count);
        ready = ready.saturating_sub(count);
    }
    Ok(())
}

fn time_left(deadline: Instant) -> Result<Duration, HandshakeError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(HandshakeError::TimedOut) } else { Ok(left) }
}

/// A socket call with a timeout is not restarted after a signal such as SIGHUP. That yields no
/// count, and the call has to be repeated.
fn unless_interrupted(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        result => result.map(Some),
    }
}

/// Whether the first bytes are an HTTP method and not a TLS record (RFC 9112, section 3.1).
fn is_http(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    (3..=8).contains(&method) && bytes.get(method) == Some(&b' ')
}

/// Closes our side and waits for the peer to close: closing a socket with unread bytes resets the
/// connection, and the peer loses the alert.
fn linger(mut socket: &TcpStream, deadline: Instant) {
    let until = deadline.min(Instant::now() + LINGER);
    let mut left_over = LINGER_BYTES;
    let mut bytes = [0; 4096];
    let _ = socket.shutdown(Shutdown::Write);
    while let Ok(left) = time_left(until) {
        if socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match socket.read(&mut bytes) {
            Ok(count) if count > 0 && count < left_over => left_over -= count,
            Ok(_) | Err(_) => return,
        }
    }
}

/// The alert with which a peer closed the connection (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(AlertDescription);

impl Alert {
    /// The alert in an error, if it is one.
    pub(super) fn received(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::AlertReceived(alert) => Some(Self(*alert)),
            _ => None,
        }
    }

    /// Whether the peer rejected our certificate.
    pub fn is_about_certificate(self) -> bool {
        use AlertDescription as A;
        matches!(
            self.0,
            A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied
                | A::CertificateRequired
                | A::DecryptError
        )
    }
}

/// In words, such as `bad certificate`.
impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.0);
        let mut was_lower = false;
        for c in name.chars() {
            if c.is_ascii_uppercase() && was_lower {
                f.write_char(' ')?;
            }
            was_lower = c.is_ascii_lowercase();
            f.write_char(c.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer did not finish it in time.
    #[error("the TLS handshake was not finished in time")]
    TimedOut,
    /// The peer closed the connection during the handshake.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// The peer sent no certificate.
    #[error("it sent no certificate")]
    NoCertificate,
    /// The peer's certificate was rejected; the verifier knows why.
    #[error("the TLS handshake failed: {0}")]
    Certificate(rustls::Error),
    /// The peer refused us.
    #[error("the peer ended the TLS handshake ({0})")]
    Refused(Alert),
    /// The peer supports only older TLS versions.
    #[error("it does not speak TLS 1.3, and nothing older is accepted")]
    NoTls13,
    /// The server does not support trials; our certificate was not sent to it.
    #[error("it knows no trials of a connection")]
    NoTrials,
    /// The peer speaks HTTP without TLS.
    #[error(
        "it speaks plain HTTP; this is the pipe port, for RestPipe clients, and HTTP is spoken on the \
         local port"
    )]
    PlainHttp,
    /// The server speaks HTTP without TLS.
    #[error(
        "it speaks plain HTTP, as no pipe port does: is that the server's local HTTP port, or another \
         program's?"
    )]
    HttpServer,
    /// Any other TLS failure.
    #[error("the TLS handshake failed: {0}")]
    Tls(rustls::Error),
    /// The socket failed.
    #[error("the connection failed during the TLS handshake: {0}")]
    Io(io::Error),
}

impl HandshakeError {
    fn from_tls(error: rustls::Error, is_server: bool) -> Self {
        use rustls::{Error as E, PeerIncompatible as P};
        match error {
            E::InvalidCertificate(_) => Self::Certificate(error),
            E::NoCertificatesPresented => Self::NoCertificate,
            E::PeerIncompatible(
                P::SupportedVersionsExtensionRequired
                | P::ServerDoesNotSupportTls12Or13
                | P::ServerTlsVersionIsDisabledByOurConfig
                | P::Tls12NotOffered
                | P::Tls12NotOfferedOrEnabled,
            ) => Self::NoTls13,
            // All that a server without TLS 1.3 sends.
            E::AlertReceived(AlertDescription::ProtocolVersion) if !is_server => Self::NoTls13,
            E::AlertReceived(alert) => Self::Refused(Alert(alert)),
            error => Self::Tls(error),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket timeout is either kind, depending on the platform.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_shown_in_words() {
        for (alert, words) in [
            (AlertDescription::BadCertificate, "bad certificate"),
            (AlertDescription::UnknownCA, "unknown ca"),
            (AlertDescription::CertificateRequired, "certificate required"),
        ] {
            assert_eq!(Alert(alert).to_string(), words);
            assert!(Alert(alert).is_about_certificate());
        }
        assert!(!Alert(AlertDescription::HandshakeFailure).is_about_certificate());
    }

    #[test]
    fn http_is_told_from_tls_by_its_method() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"OPTIONS * HTTP", b"CONNECT a:1"] {
            assert!(is_http(bytes));
        }
        for bytes in [&b"\x16\x03\x01"[..], b"GE", b"get / ", b"ABCDEFGHI /", b""] {
            assert!(!is_http(bytes));
        }
    }
}
