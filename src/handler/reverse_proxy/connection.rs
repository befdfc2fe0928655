//! One connection to a service: opened, written and read in short turns, so that whoever uses it can
//! look between them whether it is still wanted.
//!
//! In scope: sockets. Not in scope: what the bytes mean, and who uses a connection next (`idle`).

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::fault::Fault;
use super::response::MAX_BYTES;
use crate::config::ServiceAddress;
use crate::handler::Context;

/// The longest wait in one call of a socket.
pub(super) const TURN: Duration = Duration::from_millis(250);
/// How long opening a connection may take.
const OPENING: Duration = Duration::from_secs(5);

/// Where connections go. It is looked up for each, for a name may move.
#[derive(Debug)]
pub(super) enum Place {
    /// A host and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(SockAddr),
}

impl Place {
    /// That of this address; an error where there can be none.
    pub fn of(address: &ServiceAddress) -> io::Result<Self> {
        Ok(match address {
            ServiceAddress::Tcp { host, port, .. } => Self::Tcp(host.clone(), *port),
            ServiceAddress::Unix(path) => Self::Unix(SockAddr::unix(path)?),
        })
    }

    fn addresses(&self) -> io::Result<Vec<SockAddr>> {
        match self {
            Self::Tcp(host, port) => {
                Ok((host.as_str(), *port).to_socket_addrs()?.map(SockAddr::from).collect())
            }
            Self::Unix(address) => Ok(vec![address.clone()]),
        }
    }
}

/// For how long a request goes on: as long as somebody waits, and something moves.
pub(super) struct Watch<'a> {
    context: &'a Context,
    limit: Duration,
    moved: Instant,
}

impl<'a> Watch<'a> {
    /// From now on.
    pub fn new(context: &'a Context, limit: Duration) -> Self {
        Self { context, limit, moved: Instant::now() }
    }

    /// Something moved: the time is counted from now.
    pub fn moved(&mut self) {
        self.moved = Instant::now();
    }

    /// Whether to go on waiting for the service to do `what`.
    pub fn look(&self, what: &'static str) -> Result<(), Fault> {
        if self.context.is_cancelled() {
            Err(Fault::Cancelled)
        } else if self.moved.elapsed() >= self.limit {
            Err(Fault::Timeout(what, self.limit))
        } else {
            Ok(())
        }
    }
}

/// An open connection. Dropped, it is closed, whoever else still holds its socket.
pub(super) struct Connection {
    socket: Arc<Socket>,
    /// The read timeout as it is set: setting it costs a system call.
    timeout: Duration,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    /// Opens one to the first of the addresses that takes it.
    pub fn open(place: &Place, watch: &Watch<'_>) -> Result<Self, Fault> {
        let unreachable = |error: io::Error| Fault::Unreachable(error.to_string());
        let until = Instant::now() + OPENING;
        let mut last = io::Error::other("the host has no address");
        for address in place.addresses().map_err(unreachable)? {
            match dial(&address, until, watch)? {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let buffer = vec![0; MAX_BYTES];
                    return Ok(Self { socket, timeout: TURN, buffer, start: 0, end: 0 });
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    /// For a second thread that writes.
    pub fn socket(&self) -> Arc<Socket> {
        Arc::clone(&self.socket)
    }

    /// Whether an unused connection is of no use: it was closed, or sends what nobody asked for.
    pub fn is_stale(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = self.socket.recv_with_flags(&mut [MaybeUninit::uninit()], flags);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes all of it. `false` where the service takes no more: it may have answered.
    pub fn write(&self, mut bytes: &[u8], watch: &mut Watch<'_>) -> Result<bool, Fault> {
        while !bytes.is_empty() {
            match (&*self.socket).write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    watch.moved();
                }
                Err(error) if is_turn(&error) => watch.look("take the request")?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The bytes that were read and not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Drops the first `count` of the buffered bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once, more into the buffer, for at most `timeout` and a [`TURN`]. Returns how many bytes
    /// came, 0 at the end; `None` where none came in time.
    pub fn fill(&mut self, timeout: Duration) -> io::Result<Option<usize>> {
        if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.set_timeout(timeout)?;
        let read = some((&*self.socket).read(&mut self.buffer[self.end..]))?;
        self.end += read.unwrap_or(0);
        Ok(read)
    }

    /// Reads once into `into`: what is buffered, or else without another copy. Otherwise as
    /// [`Connection::fill`].
    pub fn read(&mut self, into: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let ready = self.buffered();
        if !ready.is_empty() {
            let count = ready.len().min(into.len());
            into[..count].copy_from_slice(&ready[..count]);
            self.consume(count);
            return Ok(Some(count));
        }
        self.set_timeout(timeout)?;
        some((&*self.socket).read(into))
    }

    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        // None at all would be "for ever".
        let timeout = timeout.clamp(Duration::from_millis(1), TURN);
        if timeout != self.timeout {
            self.socket.set_read_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Closed already: so much the better.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Opens a socket with its timeouts set. Connecting waits no longer than a write (connect(2)), and is
/// gone on with by the next call.
fn dial(
    address: &SockAddr,
    until: Instant,
    watch: &Watch<'_>,
) -> Result<io::Result<Socket>, Fault> {
    let open = || {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        if address.domain() != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
        }
        socket.set_read_timeout(Some(TURN))?;
        socket.set_write_timeout(Some(TURN))?;
        Ok(socket)
    };
    let socket: Socket = match open() {
        Ok(socket) => socket,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        match socket.connect(address) {
            Ok(()) => return Ok(Ok(socket)),
            Err(error) if error.raw_os_error() == Some(libc::EISCONN) => return Ok(Ok(socket)),
            Err(error) if !is_connecting(&error) => return Ok(Err(error)),
            Err(_) if Instant::now() >= until => {
                return Ok(Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")));
            }
            Err(_) => watch.look("take a connection")?,
        }
    }
}

fn is_connecting(error: &io::Error) -> bool {
    is_turn(error) || matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EALREADY))
}

/// Whether a call ended only because its turn was over.
pub(super) fn is_turn(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn some(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(count) => Ok(Some(count)),
        Err(error) if is_turn(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
