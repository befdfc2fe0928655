//! One connection of any kind: TCP, Unix socket, TLS over any of them, standard input and output.
//!
//! In scope: reading and writing that never blocks, waiting with a deadline, half-close and reset.
//! Not in scope: what the bytes mean.
//!
//! [`Read`] and [`Write`] answer `WouldBlock` at once; [`Stream::wait`] is the only place that
//! waits, and always with a deadline. So one thread can serve two streams (`relay`), and no thread
//! hangs on a peer that says nothing.

mod tls;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::Socket;

use tls::Tls;

/// What a pipe or a terminal takes without blocking once poll(2) says that it takes anything
/// (`PIPE_BUF`, pipe(7)). Standard output is shared with other processes, so it stays blocking.
const PAIR_WRITE: usize = 4096;

/// A connection.
pub struct Stream {
    kind: Kind,
    /// Bytes that were read too early and are read again first.
    early: Vec<u8>,
    /// How many of them were.
    taken: usize,
}

enum Kind {
    /// Shared with whoever may shut it down.
    Socket(Arc<Socket>),
    Tls(Box<Tls>),
    /// None once it was closed for writing.
    Pair(File, Option<File>),
}

impl Stream {
    /// A TCP or Unix socket.
    pub fn socket(socket: impl Into<Socket>) -> io::Result<Self> {
        Self::shared(Arc::new(socket.into()))
    }

    /// The same, which somebody else may shut down.
    pub(super) fn shared(socket: Arc<Socket>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // A Unix socket has no such option and needs none.
        let _ = socket.set_tcp_nodelay(true);
        Ok(Self::new(Kind::Socket(socket)))
    }

    /// Standard input and output of this process, once.
    pub fn stdio() -> io::Result<Self> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(Kind::Pair(input, Some(output))))
    }

    /// TLS as the server of it, after the handshake.
    pub fn tls_server(
        under: Stream,
        config: Arc<ServerConfig>,
        deadline: Instant,
    ) -> io::Result<Self> {
        Ok(Self::new(Kind::Tls(Box::new(Tls::accept(under, config, deadline)?))))
    }

    /// TLS as the client of it, after the handshake. `under` may itself be TLS.
    pub fn tls_client(
        under: Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Instant,
    ) -> io::Result<Self> {
        Ok(Self::new(Kind::Tls(Box::new(Tls::connect(under, config, name, deadline)?))))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, early: Vec::new(), taken: 0 }
    }

    /// Gives bytes back: they are read again, before all others.
    pub fn unread(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(self.early());
        self.early = bytes;
        self.taken = 0;
    }

    /// What was given back and not read again yet.
    pub fn early(&self) -> &[u8] {
        &self.early[self.taken..]
    }

    /// The same, taken: whoever has it reads it.
    pub fn take_early(&mut self) -> Vec<u8> {
        let early = self.early().to_vec();
        (self.early, self.taken) = (Vec::new(), 0);
        early
    }

    /// The address of a TCP peer.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.bottom().and_then(|socket| socket.peer_addr().ok()?.as_socket())
    }

    /// The bare socket, where this is nothing else and no byte of it is held here.
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
            Kind::Pair(..) => None,
        }
    }

    /// What to poll for reading.
    pub(super) fn input(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Socket(socket) => socket.as_fd(),
            Kind::Tls(tls) => tls.under().input(),
            Kind::Pair(input, _) => input.as_fd(),
        }
    }

    /// What to poll for writing.
    pub(super) fn output(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Socket(socket) => socket.as_fd(),
            Kind::Tls(tls) => tls.under().output(),
            Kind::Pair(input, output) => output.as_ref().map_or(input.as_fd(), AsFd::as_fd),
        }
    }

    /// Whether reading may give something although poll(2) sees nothing: bytes that were given back,
    /// or decrypted already.
    pub(super) fn holds_input(&self) -> bool {
        match &self.kind {
            Kind::Tls(tls) => !self.early().is_empty() || tls.holds_input(),
            _ => !self.early().is_empty(),
        }
    }

    /// Whether bytes that count as written still wait for the socket: [`Write::flush`] sends them.
    pub(super) fn holds_output(&self) -> bool {
        match &self.kind {
            Kind::Tls(tls) => tls.holds_output(),
            _ => false,
        }
    }

    /// Says that nothing more is written; the other direction goes on. `WouldBlock`: not yet.
    pub fn close_writing(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Socket(socket) => match socket.shutdown(Shutdown::Write) {
                // It is closed already.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
                other => other,
            },
            Kind::Tls(tls) => tls.close_writing(),
            Kind::Pair(_, output) => {
                if let Some(output) = output.take() {
                    close_standard_output(&output)?;
                }
                Ok(())
            }
        }
    }

    /// As [`Stream::close_writing`], waiting until it is said, until `deadline`.
    pub fn close_writing_within(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            match self.close_writing() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Event::Writable, deadline)?;
                }
                other => return other,
            }
        }
    }

    /// Ends it in a way that the peer sees as an error, where the kind of connection knows one: TCP
    /// sends a reset.
    pub fn reset(self) {
        if let Some(socket) = self.bottom() {
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// Waits until it may be readable or writable. `TimedOut` at `deadline`.
    pub fn wait(&self, event: Event, deadline: Instant) -> io::Result<()> {
        if event == Event::Readable && self.holds_input() {
            return Ok(());
        }
        let mut polled = Vec::with_capacity(2);
        if event == Event::Readable {
            polled.push(PollFd::from_borrowed_fd(self.input(), PollFlags::IN));
        }
        if event == Event::Writable || self.holds_output() {
            polled.push(PollFd::from_borrowed_fd(self.output(), PollFlags::OUT));
        }
        if wait_any(&mut polled, Some(deadline))? {
            Ok(())
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    /// Reads some bytes, waiting for them until `deadline`. 0 is the end.
    pub fn read_within(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            match self.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // What is still to be sent may be what the peer waits for.
                    match self.flush() {
                        Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                        _ => self.wait(Event::Readable, deadline)?,
                    }
                }
                other => return other,
            }
        }
    }

    /// Writes all bytes, and has them leave this process, until `deadline`.
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
                    self.wait(Event::Writable, deadline)?;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// What [`Stream::wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes, the end or an error can be read.
    Readable,
    /// Bytes can be written.
    Writable,
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
            Kind::Pair(input, _) => {
                // It may block, so only what is there is asked for.
                let mut polled = [PollFd::new(input, PollFlags::IN)];
                if !wait_any(&mut polled, Some(Instant::now()))? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                input.read(buffer)
            }
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_interrupted(|| match &mut self.kind {
            // Not `write`: std has SIGPIPE ignored, but a program that uses this crate may not.
            Kind::Socket(socket) => socket.send_with_flags(bytes, libc::MSG_NOSIGNAL),
            Kind::Tls(tls) => tls.write(bytes),
            Kind::Pair(_, None) => Err(io::ErrorKind::BrokenPipe.into()),
            Kind::Pair(_, Some(output)) => {
                let mut polled = [PollFd::new(output, PollFlags::OUT)];
                if !wait_any(&mut polled, Some(Instant::now()))? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                output.write(&bytes[..bytes.len().min(PAIR_WRITE)])
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tls(tls) => tls.flush(),
            _ => Ok(()),
        }
    }
}

/// Waits until something happens at one of these. False at `deadline`; without one it waits for as
/// long as it takes.
pub(super) fn wait_any(polled: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Beyond what a `Timespec` holds it may as well be for ever.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(polled, timeout.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Has whoever reads our standard output see its end: dropping a copy of it would not.
fn close_standard_output(output: &File) -> io::Result<()> {
    // Where it is a socket there may be more copies than this process has.
    let _ = rustix::net::shutdown(output, rustix::net::Shutdown::Write);
    Ok(rustix::stdio::dup2_stdout(&File::options().write(true).open("/dev/null")?)?)
}

fn unless_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
