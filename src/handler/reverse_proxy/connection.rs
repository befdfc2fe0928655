//! One connection to a service. All calls return after a short time, so that the user can check
//! between them whether the reply is still awaited.
//!
//! In scope: sockets. Not in scope: the protocol, and reuse of connections (`idle`).

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

/// The longest wait in one socket call.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Time limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of a service. It is resolved for each connection, since DNS may change.
#[derive(Debug)]
pub(super) enum ServiceEndpoint {
    /// A host and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(SockAddr),
}

impl ServiceEndpoint {
    /// Converts a configured address; fails if it is invalid.
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

/// Limits how long a request continues: while the reply is awaited and there is progress.
pub(super) struct ProgressWatch<'a> {
    context: &'a Context,
    limit: Duration,
    moved: Instant,
}

impl<'a> ProgressWatch<'a> {
    /// Starts now.
    pub fn new(context: &'a Context, limit: Duration) -> Self {
        Self { context, limit, moved: Instant::now() }
    }

    /// Records progress and restarts the time limit.
    pub fn moved(&mut self) {
        self.moved = Instant::now();
    }

    /// Fails if the reply is no longer awaited, or if the service did not do `what` in time.
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

/// An open connection. Dropping it closes it, even while another thread holds its socket.
pub(super) struct ServiceConnection {
    /// The service's output.
    pub input: HttpInput,
}

impl ServiceConnection {
    /// Connects to the first address that accepts.
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

    /// The socket, for a second thread that writes.
    pub fn socket(&self) -> Arc<Socket> {
        Arc::clone(self.input.socket())
    }

    /// Whether an idle connection is unusable: it was closed, or received unsolicited data.
    pub fn is_stale(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = self.input.socket().recv_with_flags(&mut [MaybeUninit::uninit()], flags);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes all bytes. Returns `false` if the service accepts no more: it may have replied.
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
        // Fails if it is already closed.
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

/// Whether a call failed only because its wait timed out.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
