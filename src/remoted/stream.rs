//! One connection of any kind: TCP, Unix socket, TLS over any of them, standard input and output.
//!
//! In scope: non-blocking reads and writes, waiting with a deadline, half-close and reset. Not in scope:
//! what the bytes mean.
//!
//! [`Read`] and [`Write`] return `WouldBlock` at once; only [`Stream::wait`] waits, always with a deadline.
//! So one thread can serve two streams (`relay`), and no thread hangs on a silent peer.

mod poll;
mod reset_if_killed;
mod stdio;
mod tls;
mod transport;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::Socket;

use crate::net::reset::set_reset_on_close;
pub(super) use poll::wait_any;
pub(super) use reset_if_killed::ResetIfKilled;
use stdio::StandardStreams;
use tls::StreamTls;
use transport::NonblockingTransport;
pub use transport::ReadyEvent;

/// Maximum number of bytes that are discarded so that a peer receives the last response.
const MAX_DISCARDED: usize = 256 * 1024;

/// A connection.
pub struct Stream {
    kind: Kind,
    /// Returned bytes, which are read first.
    early: Vec<u8>,
    /// How many of them were read again.
    taken: usize,
}

enum Kind {
    /// Shared with a thread that may shut it down.
    Socket(Arc<Socket>),
    Tls(Box<StreamTls<Stream>>),
    Stdio(StandardStreams),
}

impl Stream {
    /// A TCP or Unix socket.
    pub fn socket(socket: impl Into<Socket>) -> io::Result<Self> {
        Self::shared(Arc::new(socket.into()))
    }

    /// As `socket`; another thread may shut the socket down.
    pub(super) fn shared(socket: Arc<Socket>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Unix sockets have no such option and need none.
        let _ = socket.set_tcp_nodelay(true);
        Ok(Self::new(Kind::Socket(socket)))
    }

    /// Standard input and output of this process. To be used once.
    pub fn stdio() -> io::Result<Self> {
        Ok(Self::new(Kind::Stdio(StandardStreams::new()?)))
    }

    /// Completes the server side of a TLS handshake over `under`.
    pub fn tls_server(
        under: Stream,
        config: Arc<ServerConfig>,
        deadline: Instant,
    ) -> io::Result<Self> {
        Ok(Self::new(Kind::Tls(Box::new(StreamTls::accept(under, config, deadline)?))))
    }

    /// Completes the client side of a TLS handshake over `under`, which may itself be TLS.
    pub fn tls_client(
        under: Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Instant,
    ) -> io::Result<Self> {
        Ok(Self::new(Kind::Tls(Box::new(StreamTls::connect(under, config, name, deadline)?))))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, early: Vec::new(), taken: 0 }
    }

    /// Returns bytes to the stream, to be read again before all others.
    pub fn unread(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(self.early());
        self.early = bytes;
        self.taken = 0;
    }

    /// Returned bytes that were not read again yet.
    pub fn early(&self) -> &[u8] {
        &self.early[self.taken..]
    }

    /// Removes these bytes from the stream and returns them.
    pub fn take_early(&mut self) -> Vec<u8> {
        let early = self.early().to_vec();
        (self.early, self.taken) = (Vec::new(), 0);
        early
    }

    /// The address of a TCP peer.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.bottom().and_then(|socket| socket.peer_addr().ok()?.as_socket())
    }

    /// The socket, if there is no TLS and no byte is held here.
    pub(super) fn plain(&self) -> Option<&Socket> {
        match &self.kind {
            Kind::Socket(socket) if self.early().is_empty() => Some(socket),
            _ => None,
        }
    }

    /// The socket below all TLS.
    pub(super) fn bottom(&self) -> Option<&Socket> {
        match &self.kind {
            Kind::Socket(socket) => Some(socket),
            Kind::Tls(tls) => tls.under().bottom(),
            Kind::Stdio(_) => None,
        }
    }

    fn shared_bottom(&self) -> Option<Arc<Socket>> {
        match &self.kind {
            Kind::Socket(socket) => Some(Arc::clone(socket)),
            Kind::Tls(tls) => tls.under().shared_bottom(),
            Kind::Stdio(_) => None,
        }
    }

    /// What to poll for reading.
    pub(super) fn input(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Socket(socket) => socket.as_fd(),
            Kind::Tls(tls) => tls.under().input(),
            Kind::Stdio(stdio) => stdio.input(),
        }
    }

    /// What to poll for writing.
    pub(super) fn output(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Socket(socket) => socket.as_fd(),
            Kind::Tls(tls) => tls.under().output(),
            Kind::Stdio(stdio) => stdio.output(),
        }
    }

    /// Whether reading may return something although poll(2) reports nothing: returned bytes, or bytes
    /// already decrypted.
    pub(super) fn holds_input(&self) -> bool {
        match &self.kind {
            Kind::Tls(tls) => !self.early().is_empty() || tls.holds_input(),
            _ => !self.early().is_empty(),
        }
    }

    /// Whether written bytes still wait for the socket: [`Write::flush`] sends them.
    pub(super) fn holds_output(&self) -> bool {
        match &self.kind {
            Kind::Tls(tls) => tls.holds_output(),
            _ => false,
        }
    }

    /// Ends the writing direction; the other goes on. `WouldBlock`: not yet.
    pub fn close_writing(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Socket(socket) => match socket.shutdown(Shutdown::Write) {
                // It is closed already.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
                other => other,
            },
            Kind::Tls(tls) => tls.close_writing(),
            Kind::Stdio(stdio) => stdio.close_writing(),
        }
    }

    /// As [`Stream::close_writing`], but waits until it is sent or `deadline` passes.
    pub fn close_writing_within(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            match self.close_writing() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(ReadyEvent::Writable, deadline)?;
                }
                other => return other,
            }
        }
    }

    /// Ends the writing direction and discards input until the peer ends its own direction or `deadline`
    /// passes: closing with unread bytes would send a reset, which may overtake the last bytes sent.
    pub(super) fn finish_within(&mut self, deadline: Instant) {
        let _ = self.close_writing_within(deadline);
        let mut buffer = [0; 4096];
        let mut discarded = 0;
        while discarded < MAX_DISCARDED {
            match self.read_within(&mut buffer, deadline) {
                Ok(count) if count > 0 => discarded += count,
                _ => return,
            }
        }
    }

    /// Closes it with an error for the peer, if the kind of connection has one: TCP sends a reset.
    pub fn reset(self) {
        self.set_reset_on_close(true);
    }

    /// Has a joined connection reset if this process is killed.
    pub(super) fn reset_if_killed(&self) -> ResetIfKilled {
        ResetIfKilled::new(self.shared_bottom())
    }

    /// Whether closing it resets it. The kernel then also resets it if this process is killed.
    pub(super) fn set_reset_on_close(&self, resets: bool) {
        if let Some(socket) = self.bottom() {
            set_reset_on_close(socket, resets);
        }
    }

    /// Takes an end of TLS without a close_notify for a regular end. Anybody on the path can cause one.
    pub(super) fn allow_missing_close_notify(&mut self) {
        if let Kind::Tls(tls) = &mut self.kind {
            tls.allow_missing_close_notify();
        }
    }

    /// Waits until it may be ready for `event`. `TimedOut` at `deadline`.
    pub fn wait(&self, event: ReadyEvent, deadline: Instant) -> io::Result<()> {
        if event == ReadyEvent::Readable && self.holds_input() {
            return Ok(());
        }
        let mut polled = Vec::with_capacity(2);
        if event == ReadyEvent::Readable {
            polled.push(PollFd::from_borrowed_fd(self.input(), PollFlags::IN));
        }
        if event == ReadyEvent::Writable || self.holds_output() {
            polled.push(PollFd::from_borrowed_fd(self.output(), PollFlags::OUT));
        }
        if wait_any(&mut polled, Some(deadline))? {
            Ok(())
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    /// Reads some bytes, waiting until `deadline`. 0 is the end.
    pub fn read_within(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            match self.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // The peer may wait for bytes that are still unsent.
                    match self.flush() {
                        Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                        _ => self.wait(ReadyEvent::Readable, deadline)?,
                    }
                }
                other => return other,
            }
        }
    }

    /// Writes all bytes and flushes them, until `deadline`.
    pub fn write_all_within(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        loop {
            let result = match bytes {
                [] => self.flush().map(|()| 0),
                bytes => self.write(bytes),
            };
            match result {
                Ok(_) if bytes.is_empty() => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(ReadyEvent::Writable, deadline)?;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl NonblockingTransport for Stream {
    fn wait(&self, event: ReadyEvent, deadline: Instant) -> io::Result<()> {
        self.wait(event, deadline)
    }

    fn holds_input(&self) -> bool {
        self.holds_input()
    }

    fn holds_output(&self) -> bool {
        self.holds_output()
    }

    fn close_writing(&mut self) -> io::Result<()> {
        self.close_writing()
    }
}

impl TryFrom<TcpStream> for Stream {
    type Error = io::Error;

    fn try_from(socket: TcpStream) -> io::Result<Self> {
        Self::socket(socket)
    }
}

impl TryFrom<UnixStream> for Stream {
    type Error = io::Error;

    fn try_from(socket: UnixStream) -> io::Result<Self> {
        Self::socket(socket)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.early().is_empty() {
            let count = self.early().read(buffer)?;
            self.taken += count;
            if self.early().is_empty() {
                self.early = Vec::new();
                self.taken = 0;
            }
            return Ok(count);
        }
        unless_interrupted(|| match &mut self.kind {
            Kind::Socket(socket) => (&**socket).read(buffer),
            Kind::Tls(tls) => tls.read(buffer),
            Kind::Stdio(stdio) => stdio.read(buffer),
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_interrupted(|| match &mut self.kind {
            // Not `write`: std ignores SIGPIPE, but a program that uses this crate may not.
            Kind::Socket(socket) => socket.send_with_flags(bytes, libc::MSG_NOSIGNAL),
            Kind::Tls(tls) => tls.write(bytes),
            Kind::Stdio(stdio) => stdio.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tls(tls) => tls.flush(),
            _ => Ok(()),
        }
    }
}

fn unless_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
