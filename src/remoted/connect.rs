//! A caller's connection to a server behind a broker.
//!
//! In scope: passing one broker or several, and the connection that a program reads and writes. Not
//! in scope: local ports (`publish`, `forward`).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::outbound::Outbound;
use super::random;
use super::stream::{Event, Stream};
use super::url::Url;
use super::webroute::{Cause, ConnectError, join};

/// The time for reaching one broker: its address, a proxy, TLS.
pub(super) const REACH: Duration = Duration::from_secs(10);
/// The time for a broker to join us with the server. The original's broker waits a minute for it,
/// and up to three seconds longer.
const JOINED: Duration = Duration::from_secs(65);
/// For how long a joined connection may be idle, in seconds, unless the caller says otherwise. A
/// broker takes the smaller of both sides' values, and the server repeats ours; without one the
/// original closes after a minute.
pub const DEFAULT_IDLE_S: u64 = 24 * 3600;
/// A wait without a limit is one of many of this length.
const LONG: Duration = Duration::from_secs(3600);

/// Connects to the server of a path. With several addresses each next broker is reached through the
/// link before it, so that the first is the one that this machine can dial.
///
/// `idle_s` is how long the connection may be idle, in seconds: brokers end it then.
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
) -> Result<Connection, ConnectError> {
    let mut link: Option<Stream> = None;
    let mut last = None;
    for url in route {
        let fail = |cause| ConnectError::new(url, cause);
        let deadline = Instant::now() + REACH;
        let reached = match link.take() {
            None => outbound.dial(url, deadline),
            Some(link) => outbound.secure(link, url, deadline),
        };
        let mut stream = reached.map_err(|why| fail(Cause::Unreachable(why)))?;
        let deadline = Instant::now() + JOINED;
        join(&mut stream, url, &random::text(), idle_s, deadline).map_err(fail)?;
        link = Some(stream);
        last = Some(url);
    }
    match (link, last) {
        (Some(stream), Some(url)) => Ok(Connection::new(stream, url, None)),
        _ => Err(ConnectError::nowhere()),
    }
}

/// A connection through a broker, joined and ready: what is written arrives at the other side.
///
/// Dropping it closes both ways properly; [`Connection::reset`] breaks it off.
pub struct Connection {
    stream: Stream,
    path: String,
    caller: Option<SocketAddr>,
    timeout: Option<Duration>,
}

impl Connection {
    pub(super) fn new(stream: Stream, url: &Url, caller: Option<SocketAddr>) -> Self {
        Self { stream, path: url.path().to_owned(), caller, timeout: None }
    }

    /// The path on the (last) broker.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the caller connects from, as the broker sees it. A caller does not know its own.
    pub fn caller(&self) -> Option<SocketAddr> {
        self.caller
    }

    /// How long one read or write may wait; none: for ever, which is how it begins. The error is of
    /// the kind [`io::ErrorKind::TimedOut`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Says that nothing more is written. Reading goes on.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.patiently(Event::Writable, Stream::close_writing)
    }

    /// Breaks the connection off, so that the other side does not take its end for a proper one.
    pub fn reset(self) {
        self.stream.reset();
    }

    /// The stream below, such as for [`relay`](super::relay::relay).
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    fn patiently<T>(
        &mut self,
        event: Event,
        mut call: impl FnMut(&mut Stream) -> io::Result<T>,
    ) -> io::Result<T> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match call(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let until = deadline.unwrap_or_else(|| Instant::now() + LONG);
            match self.stream.wait(event, until) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && deadline.is_none() => {}
                result => result?,
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(Event::Readable, |stream| stream.read(buffer))
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.patiently(Event::Writable, |stream| stream.write(bytes))?;
        // Bytes that TLS holds back would wait for the next call, which may never come.
        self.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.patiently(Event::Writable, Stream::flush)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, caller, timeout, .. } = self;
        f.debug_struct("Connection")
            .field("path", path)
            .field("caller", caller)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}
