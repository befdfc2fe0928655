//! A caller's connection to a server behind a broker.
//!
//! In scope: passing one or several brokers, and the connection that a program reads and writes. Not in
//! scope: local ports (`publication`, `forward`).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::outbound::Outbound;
use super::random;
use super::stream::{ReadyEvent, ResetIfKilled, Stream};
use super::url::Url;
use super::webroute::{Cause, ConnectError, join};

/// The time to reach one broker: its address, a proxy, TLS.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a broker to join us with the server. The original's broker waits a minute for the server, and
/// up to three seconds longer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(65);
/// How long a joined connection may be idle, in seconds, unless the caller sets another limit. A broker
/// applies the smaller value of both sides, and the server repeats ours; without one the original closes
/// after a minute.
pub const DEFAULT_IDLE_S: u64 = 24 * 3600;
/// An unlimited wait repeats waits of this length.
const UNLIMITED_WAIT_STEP: Duration = Duration::from_secs(3600);

/// Connects to the server of a path. With several addresses, each broker is reached through the connection to
/// the one before it; only the first must be reachable from this machine.
///
/// `idle_s` is how long the connection may be idle, in seconds, before a broker closes it.
///
/// ```no_run
/// use std::io::{Read, Write};
///
/// use restpipe::remoted::{self, DEFAULT_IDLE_S, Outbound, Proxies, Trust, Url};
///
/// let outbound = Outbound::new(Trust::System, Proxies::default());
/// let url: Url = "rwrs://CALLERKEY@broker.example.com/db".parse()?;
/// let mut connection = remoted::connect(&[url], &outbound, DEFAULT_IDLE_S)?;
/// connection.write_all(b"PING\r\n")?;
/// connection.shutdown_write()?;
/// let mut answer = String::new();
/// connection.read_to_string(&mut answer)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(
    route: &[Url],
    outbound: &Outbound,
    idle_s: u64,
) -> Result<BrokeredConnection, ConnectError> {
    let mut link: Option<Stream> = None;
    let mut last = None;
    for url in route {
        let fail = |cause| ConnectError::new(url, cause);
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let reached = match link.take() {
            None => outbound.dial(url, deadline),
            Some(link) => outbound.secure(link, url, deadline),
        };
        let mut stream = reached.map_err(|why| fail(Cause::Unreachable(why)))?;
        let deadline = Instant::now() + JOIN_TIMEOUT;
        join(&mut stream, url, &random::text(), idle_s, deadline).map_err(fail)?;
        link = Some(stream);
        last = Some(url);
    }
    match (link, last) {
        (Some(stream), Some(url)) => Ok(BrokeredConnection::new(stream, url, None)),
        _ => Err(ConnectError::no_address()),
    }
}

/// A joined connection through a broker: written bytes arrive at the other side.
///
/// Dropping it closes both directions cleanly; [`BrokeredConnection::reset`] breaks it off, and so does the
/// kernel if the program is killed.
pub struct BrokeredConnection {
    stream: Stream,
    reset_if_killed: ResetIfKilled,
    path: String,
    caller: Option<SocketAddr>,
    timeout: Option<Duration>,
}

impl BrokeredConnection {
    pub(super) fn new(stream: Stream, url: &Url, caller: Option<SocketAddr>) -> Self {
        let reset_if_killed = stream.reset_if_killed();
        Self { stream, reset_if_killed, path: url.path().to_owned(), caller, timeout: None }
    }

    /// The path on the (last) broker.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The caller's address as the broker sees it. None on the caller's own side.
    pub fn caller(&self) -> Option<SocketAddr> {
        self.caller
    }

    /// How long one read or write may wait; unlimited by default. The error is of the kind
    /// [`io::ErrorKind::TimedOut`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Ends the writing direction. Reading goes on.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.when_ready(ReadyEvent::Writable, Stream::close_writing)
    }

    /// Breaks the connection off: the other side sees an error instead of a regular end.
    pub fn reset(self) {
        self.reset_if_killed.keep();
        self.stream.reset();
    }

    /// The underlying stream, for example for [`relay`](super::relay::relay). Closing it resets it, unless
    /// that relay has ended in order.
    pub fn into_stream(self) -> Stream {
        self.reset_if_killed.keep();
        self.stream
    }

    fn when_ready<T>(
        &mut self,
        event: ReadyEvent,
        mut call: impl FnMut(&mut Stream) -> io::Result<T>,
    ) -> io::Result<T> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match call(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let until = deadline.unwrap_or_else(|| Instant::now() + UNLIMITED_WAIT_STEP);
            match self.stream.wait(event, until) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && deadline.is_none() => {}
                result => result?,
            }
        }
    }
}

impl Read for BrokeredConnection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.when_ready(ReadyEvent::Readable, |stream| stream.read(buffer))
    }
}

impl Write for BrokeredConnection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.when_ready(ReadyEvent::Writable, |stream| stream.write(bytes))?;
        // Otherwise bytes buffered by TLS would wait for the next call, which may never come.
        self.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.when_ready(ReadyEvent::Writable, Stream::flush)
    }
}

impl fmt::Debug for BrokeredConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, caller, timeout, .. } = self;
        f.debug_struct("Connection")
            .field("path", path)
            .field("caller", caller)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}
