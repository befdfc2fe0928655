//! One connection to a service: opened, written and read in short turns, so that its user can
//! check between them whether the reply is still awaited.
//!
//! In scope: sockets. Not in scope: what the bytes mean, and who uses a connection next (`idle`).

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::fault::ServiceFault;
use super::response::MAX_BYTES;
use crate::config::ServiceAddress;
use crate::handler::Context;
use crate::http1::input::HttpInput;

/// The longest wait in one call of a socket.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where connections go. It is looked up for each, for a name may move.
#[derive(Debug)]
pub(super) enum ServiceEndpoint {
    /// A host and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(SockAddr),
}

impl ServiceEndpoint {
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
pub(super) struct ProgressWatch<'a> {
    context: &'a Context,
    limit: Duration,
    moved: Instant,
}

impl<'a> ProgressWatch<'a> {
    /// From now on.
    pub fn new(context: &'a Context, limit: Duration) -> Self {
        Self { context, limit, moved: Instant::now() }
    }

    /// Something moved: the time is counted from now.
    pub fn moved(&mut self) {
        self.moved = Instant::now();
    }

    /// Whether to go on waiting for the service to do `what`.
    pub fn check(&self, what: &'static str) -> Result<(), ServiceFault> {
        if self.context.is_cancelled() {
            Err(ServiceFault::Cancelled)
        } else if self.moved.elapsed() >= self.limit {
            Err(ServiceFault::Timeout(what, self.limit))
        } else {
            Ok(())
        }
    }
}

/// An open connection. Dropped, it is closed, even while another thread holds its socket.
pub(super) struct ServiceConnection {
    /// What the service sends.
    pub input: HttpInput,
}

impl ServiceConnection {
    /// Opens one to the first of the addresses that takes it.
    pub fn open(
        endpoint: &ServiceEndpoint,
        watch: &ProgressWatch<'_>,
    ) -> Result<Self, ServiceFault> {
        let unreachable = |error: io::Error| ServiceFault::Unreachable(error.to_string());
        let until = Instant::now() + CONNECT_TIMEOUT;
        let mut last = io::Error::other("the host has no address");
        for address in endpoint.addresses().map_err(unreachable)? {
            match dial(&address, until, watch)? {
                Ok(socket) => {
                    let input = HttpInput::new(Arc::new(socket), MAX_BYTES, MAX_BYTES);
                    return Ok(Self { input });
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    /// For a second thread that writes.
    pub fn socket(&self) -> Arc<Socket> {
        Arc::clone(self.input.socket())
    }

    /// Whether an unused connection is of no use: it was closed, or sends what nobody asked for.
    pub fn is_stale(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = self.input.socket().recv_with_flags(&mut [MaybeUninit::uninit()], flags);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes all of it. `false` where the service takes no more: it may have answered.
    pub fn write(
        &self,
        mut bytes: &[u8],
        watch: &mut ProgressWatch<'_>,
    ) -> Result<bool, ServiceFault> {
        while !bytes.is_empty() {
            match (&**self.input.socket()).write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    watch.moved();
                }
                Err(error) if is_timeout(&error) => watch.check("take the request")?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Drop for ServiceConnection {
    fn drop(&mut self) {
        // Closed already: so much the better.
        let _ = self.input.socket().shutdown(Shutdown::Both);
    }
}

/// Opens a socket with its timeouts set. Connecting waits no longer than a write (connect(2)), and
/// continues with the next call.
fn dial(
    address: &SockAddr,
    until: Instant,
    watch: &ProgressWatch<'_>,
) -> Result<io::Result<Socket>, ServiceFault> {
    let open = || {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        if address.domain() != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
        }
        socket.set_write_timeout(Some(POLL_INTERVAL))?;
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
            Err(_) => watch.check("take a connection")?,
        }
    }
}

fn is_connecting(error: &io::Error) -> bool {
    is_timeout(error) || matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EALREADY))
}

/// Whether a call ended only because its turn was over.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
