//! Non-blocking TLS over another stream. The only file of this module that names `rustls::Connection`.
//!
//! In scope: the handshake with its deadline, plaintext in and out, the end of a direction. Not in scope:
//! which peer to trust.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::transport::{NonblockingTransport, ReadyEvent};
use crate::remoted::pool;

/// Maximum plaintext that is held as ciphertext until the stream below accepts it: one record.
const MAX_HELD_PLAINTEXT: usize = 16 * 1024;

/// A TLS connection over the stream `T`.
pub(super) struct StreamTls<T> {
    connection: Connection,
    under: T,
    /// Bytes from the stream below that are not decrypted yet: `rest` of `cipher`. The buffer is borrowed
    /// from the pool while there are any.
    cipher: Vec<u8>,
    rest: Range<usize>,
    /// The number of decrypted bytes not read yet.
    plain: usize,
    /// Something was received since rustls last released its buffer.
    holds_buffer: bool,
    /// The stream below has ended.
    ended: bool,
    /// close_notify was sent.
    closed: bool,
    /// An end without a close_notify is an error.
    needs_close_notify: bool,
}

impl<T: NonblockingTransport> StreamTls<T> {
    pub fn accept(under: T, config: Arc<ServerConfig>, until: Instant) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Self::shake_hands(connection.into(), under, until)
    }

    pub fn connect(
        under: T,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        until: Instant,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Self::shake_hands(connection.into(), under, until)
    }

    fn shake_hands(connection: Connection, under: T, until: Instant) -> io::Result<Self> {
        let mut tls = Self {
            connection,
            under,
            cipher: Vec::new(),
            rest: 0..0,
            plain: 0,
            holds_buffer: false,
            ended: false,
            closed: false,
            needs_close_notify: true,
        };
        while tls.connection.is_handshaking() || tls.connection.wants_write() {
            // A peer that always has something to send would never reach a wait.
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let event = if tls.connection.wants_write() {
                ReadyEvent::Writable
            } else {
                ReadyEvent::Readable
            };
            let step = match event {
                ReadyEvent::Writable => tls.flush(),
                ReadyEvent::Readable if tls.ended => Err(io::ErrorKind::UnexpectedEof.into()),
                ReadyEvent::Readable => tls.receive(),
            };
            match step {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => tls.under.wait(event, until)?,
                Err(e) => {
                    // The alert tells the peer why; failing to send it is no second error.
                    let _ = tls.flush();
                    return Err(e);
                }
                Ok(()) => {}
            }
        }
        Ok(tls)
    }

    /// See [`Stream::allow_missing_close_notify`](super::Stream::allow_missing_close_notify).
    pub fn allow_missing_close_notify(&mut self) {
        self.needs_close_notify = false;
    }

    pub fn under(&self) -> &T {
        &self.under
    }

    pub fn holds_input(&self) -> bool {
        self.plain > 0 || !self.rest.is_empty() || self.under.holds_input()
    }

    pub fn holds_output(&self) -> bool {
        self.connection.wants_write() || self.under.holds_output()
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // The peer ended without a close_notify: possibly a truncation by a third party.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !self.needs_close_notify => {
                    return Ok(0);
                }
                Ok(count) => {
                    self.plain = self.plain.saturating_sub(count);
                    return Ok(count);
                }
                Err(e) => return Err(e),
            }
            self.receive()?;
        }
    }

    /// Reads and decrypts what the stream below has; `WouldBlock` if it has nothing. All bytes decrypted
    /// before must have been read.
    fn receive(&mut self) -> io::Result<()> {
        if self.rest.is_empty() && !self.ended {
            // Reads as much as is available: rustls by itself would read 4 KiB at a time.
            self.cipher = pool::buffer();
            let count = self.under.read(&mut self.cipher);
            self.rest = 0..*count.as_ref().unwrap_or(&0);
            if self.rest.is_empty() {
                pool::return_buffer(std::mem::take(&mut self.cipher));
            }
            if let Err(error) = count {
                self.release_buffer();
                return Err(error);
            }
            self.ended = self.rest.is_empty();
        }
        // No bytes: rustls takes that as the end of the stream.
        let taken = self.connection.read_tls(&mut &self.cipher[self.rest.clone()])?;
        self.rest.start += taken;
        self.holds_buffer = true;
        if self.rest.is_empty() && !self.cipher.is_empty() {
            pool::return_buffer(std::mem::take(&mut self.cipher));
            self.rest = 0..0;
        }
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.plain = state.plaintext_bytes_to_read();
                Ok(())
            }
            Err(error) => {
                let _ = self.flush();
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Makes rustls release the buffer of the last record, which it would keep for the next one: a
    /// connection may be silent for days.
    fn release_buffer(&mut self) {
        struct Nothing;
        impl Read for Nothing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        if std::mem::take(&mut self.holds_buffer) {
            let _ = self.connection.read_tls(&mut Nothing);
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // Flushes first, so that at most one record is held.
        self.flush()?;
        let count =
            self.connection.writer().write(&bytes[..bytes.len().min(MAX_HELD_PLAINTEXT)])?;
        match self.flush() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(count),
            Err(e) => Err(e),
            Ok(()) => Ok(count),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.under)?;
        }
        self.under.flush()
    }

    pub fn close_writing(&mut self) -> io::Result<()> {
        if !self.closed {
            self.closed = true;
            self.connection.send_close_notify();
        }
        self.flush()?;
        self.under.close_writing()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    use rustls::RootCertStore;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::remoted::relay::{RelayEnd, RelayLimits, RelaySide, relay};
    use crate::remoted::stream::Stream;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// Client and server after their handshake, and a copy of the client's socket.
    fn pair() -> (Stream, Stream, UnixStream) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let copy = near.try_clone().unwrap();
        let accepting = thread::spawn(move || {
            Stream::tls_server(Stream::socket(far).unwrap(), Arc::new(server), soon()).unwrap()
        });
        let under = Stream::socket(near).unwrap();
        let name = "localhost".try_into().unwrap();
        let client = Stream::tls_client(under, Arc::new(client), name, soon()).unwrap();
        (client, accepting.join().unwrap(), copy)
    }

    fn read_all(stream: &mut Stream) -> io::Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 5000]);
        loop {
            match stream.read_within(&mut buffer, soon())? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn bytes_of_many_records_and_ends_pass_through_two_of_them() {
        let (mut caller, left, _) = pair();
        let (mut server, right, _) = pair();
        let running = thread::spawn(move || relay(left, right, RelayLimits::default()));
        let bytes: Vec<u8> = (0..700_000_u32).map(|at| (at / 3) as u8).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                caller.write_all_within(&bytes, soon()).unwrap();
                caller.close_writing_within(soon()).unwrap();
            });
            assert!(read_all(&mut server).unwrap() == bytes);
        });
        // The other direction is still open.
        server.write_all_within(b"answer", soon()).unwrap();
        server.close_writing_within(soon()).unwrap();
        assert_eq!(read_all(&mut caller).unwrap(), b"answer");
        let outcome = running.join().unwrap();
        assert!(matches!(outcome.end, RelayEnd::Complete), "{outcome:?}");
        assert_eq!((outcome.to_right, outcome.to_left), (700_000, 6));
    }

    #[test]
    fn an_end_without_close_notify_is_an_error_unless_it_is_allowed() {
        let (mut client, mut server, socket) = pair();
        client.write_all_within(b"all", soon()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let error = read_all(&mut server).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        server.allow_missing_close_notify();
        assert_eq!(read_all(&mut server).unwrap(), b"");
        server.write_all_within(b"half", soon()).unwrap();
        // Below its TLS, as somebody on the path could.
        let below = server.bottom().unwrap().try_clone().unwrap();
        below.shutdown(Shutdown::Write).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(client.read_within(&mut buffer, soon()).unwrap(), 4);
        let error = client.read_within(&mut buffer, soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn bytes_that_are_not_tls_break_the_pair() {
        let (mut client, server, mut socket) = pair();
        let (far, near) = UnixStream::pair().unwrap();
        let right = Stream::socket(near).unwrap();
        let running = thread::spawn(move || relay(server, right, RelayLimits::default()));
        client.write_all_within(b"x", soon()).unwrap();
        socket.write_all(b"this is no record").unwrap();
        let outcome = running.join().unwrap();
        assert!(matches!(outcome.end, RelayEnd::Broken(RelaySide::Left, _)), "{outcome:?}");
        drop(far);
    }
}
