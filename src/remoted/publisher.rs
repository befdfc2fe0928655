//! A server's end as a library: registers a path and accepts connections, as a listening socket
//! does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::connect::{Connection, REACH};
use super::notice::Notice;
use super::outbound::Outbound;
use super::registrar::{Desk, Registrar};
use super::registration::Pulse;
use super::url::{Side, Url};
use super::webroute::{Cause, ConnectError, join};

use crate::sync::permits::Permits;
use crate::sync::throttle::Throttle;
use crate::sync::workers::Workers;

/// Connections that are being made, or wait to be accepted, at once.
const MAX_WAITING: usize = 256;

/// Serves a path on a broker.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use std::sync::Arc;
///
/// use restpipe::remoted::{Outbound, Proxies, Publisher, Trust};
///
/// let outbound = Arc::new(Outbound::new(Trust::System, Proxies::default()));
/// let url = "rwss://SERVERKEY@broker.example.com/echo".parse()?;
/// let publisher = Publisher::start(url, &outbound)?;
/// loop {
///     let mut connection = publisher.accept()?;
///     println!("called by {:?}", connection.caller());
///     std::thread::spawn(move || {
///         let mut line = [0; 100];
///         while let Ok(count @ 1..) = connection.read(&mut line) {
///             if connection.write_all(&line[..count]).is_err() {
///                 break;
///             }
///         }
///     });
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It registers on a thread of its own, again and again where the broker is away, and says so in the
/// log. Dropping it takes the path back; accepted connections live on.
pub struct Publisher {
    registrar: Registrar,
    accepted: Receiver<Connection>,
    registered: Receiver<()>,
}

impl Publisher {
    /// Registers the path of this address, one of `rws://` or `rwss://` with a key, from now on.
    pub fn start(url: Url, outbound: &Arc<Outbound>) -> io::Result<Self> {
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        if url.side() != Side::Server {
            return Err(wrong(format!("{url}: a server's address begins with rws:// or rwss://")));
        }
        outbound.check([&url]).map_err(wrong)?;
        let url = Arc::new(url);
        let (finished, accepted) = bounded(MAX_WAITING);
        let (tell, registered) = bounded(1);
        let desk = Counter {
            url: Arc::clone(&url),
            outbound: Arc::clone(outbound),
            permits: Permits::new(MAX_WAITING),
            workers: Workers::new("join"),
            finished,
            tell,
            refused: Throttle::default(),
        };
        let registrar = Registrar::start(url, Arc::clone(outbound), Pulse::USUAL, desk)?;
        Ok(Self { registrar, accepted, registered })
    }

    /// Waits until the path is registered, for the first time or since this was last asked; false
    /// where that takes longer.
    pub fn wait_registered(&self, timeout: Duration) -> bool {
        self.registered.recv_timeout(timeout).is_ok()
    }

    /// The next caller's connection. An error is that of a publisher which was stopped.
    pub fn accept(&self) -> io::Result<Connection> {
        // The sender lives as long as the registering thread.
        self.accepted.recv().map_err(|_| io::ErrorKind::NotConnected.into())
    }

    /// As [`Publisher::accept`], for this long; then the error is of the kind
    /// [`io::ErrorKind::TimedOut`].
    pub fn accept_within(&self, timeout: Duration) -> io::Result<Connection> {
        self.accepted.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::ErrorKind::NotConnected.into(),
        })
    }

    /// Takes the path back. Connections that were made already can still be accepted.
    pub fn stop(&mut self) {
        self.registrar.stop();
    }
}

/// A caller that waits at the broker.
pub(super) struct Caller {
    pub url: Arc<Url>,
    pub outbound: Arc<Outbound>,
    pub notice: Notice,
}

impl Caller {
    /// Where it connects from.
    pub fn address(&self) -> Option<SocketAddr> {
        self.notice.address
    }

    /// Makes our connection of the two. From here on the caller's bytes flow.
    pub fn join(&self) -> Result<Connection, ConnectError> {
        let Self { url, outbound, notice } = self;
        let fail = |cause| ConnectError::new(url, cause);
        let deadline = Instant::now() + REACH;
        let mut stream =
            outbound.dial(url, deadline).map_err(|why| fail(Cause::Unreachable(why)))?;
        // The caller is there already, so the broker answers at once.
        join(&mut stream, url, &notice.id, notice.timeout_s, deadline).map_err(|cause| {
            fail(match cause {
                Cause::Refused(400, _) => Cause::Broken("the caller did not wait (400)".to_owned()),
                cause => cause,
            })
        })?;
        Ok(Connection::new(stream, url, notice.address))
    }
}

/// Makes a connection for each caller and puts it where it is accepted.
struct Counter {
    url: Arc<Url>,
    outbound: Arc<Outbound>,
    permits: Arc<Permits>,
    workers: Workers,
    finished: Sender<Connection>,
    tell: Sender<()>,
    refused: Throttle,
}

impl Desk for Counter {
    fn registered(&self) {
        // Full: it is known already.
        let _ = self.tell.try_send(());
    }

    fn called(&self, notice: Notice) {
        let caller =
            Caller { url: Arc::clone(&self.url), outbound: Arc::clone(&self.outbound), notice };
        let Some(permit) = self.permits.take() else {
            if let Some(more) = self.refused.allow() {
                log::warn!(
                    "{}: {} is not served: {MAX_WAITING} others wait to be accepted{more}",
                    self.url,
                    caller.notice.shown
                );
            }
            return;
        };
        let finished = self.finished.clone();
        let spawned = self.workers.run(move || {
            match caller.join() {
                Ok(connection) => match finished.try_send(connection) {
                    Ok(()) => {}
                    Err(TrySendError::Full(connection)) => {
                        log::warn!("{}: not accepted in time; closed", caller.url);
                        connection.reset();
                    }
                    // Nobody accepts any more.
                    Err(TrySendError::Disconnected(connection)) => connection.reset(),
                },
                Err(error) => log::warn!("{}: {error}", caller.notice.shown),
            }
            drop(permit);
        });
        if let Err(error) = spawned {
            log::warn!("{}: a caller is not served: no thread for it: {error}", self.url);
        }
    }
}
