//! The server's side as a library: registers a path and accepts connections, like a listening socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::call_dispatcher::{CallCapacity, CallDispatcher};
use super::connect::BrokeredConnection;
use super::incoming_call::IncomingCall;
use super::outbound::Outbound;
use super::registrar::{self, Registrar};
use super::url::Url;
use super::websocket::LivenessTimeouts;

/// Maximum number of connections at once that are being made or wait to be accepted.
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
/// It registers on its own thread, retries while the broker cannot be reached, and logs that. Dropping it
/// withdraws the path; accepted connections stay open.
pub struct Publisher {
    registrar: Registrar,
    accepted: Receiver<BrokeredConnection>,
    registered: Receiver<()>,
}

impl Publisher {
    /// Starts to register the path of this address: `rws://` or `rwss://`, with a key.
    pub fn start(url: Url, outbound: &Arc<Outbound>) -> io::Result<Self> {
        registrar::check([&url], outbound)?;
        let (finished, accepted) = bounded(MAX_WAITING);
        let (notify, registered) = bounded(1);
        let calls = CallDispatcher::new(
            CallCapacity::new(MAX_WAITING, "join", "256 others wait to be accepted"),
            move |call| connect(&call, &finished),
            move || {
                // If the queue is full, a notification is already pending.
                let _ = notify.try_send(());
            },
        );
        let registrar = Registrar::start(url, outbound, LivenessTimeouts::DEFAULT, calls)?;
        Ok(Self { registrar, accepted, registered })
    }

    /// Waits until the path is registered, for the first time or since the last call. False if that takes
    /// longer than `timeout`.
    pub fn wait_registered(&self, timeout: Duration) -> bool {
        self.registered.recv_timeout(timeout).is_ok()
    }

    /// Waits for the next caller's connection. Fails only if the publisher was stopped.
    pub fn accept(&self) -> io::Result<BrokeredConnection> {
        // The sender lives as long as the registering thread.
        self.accepted.recv().map_err(|_| io::ErrorKind::NotConnected.into())
    }

    /// As [`Publisher::accept`], at most this long; then the error is of the kind
    /// [`io::ErrorKind::TimedOut`].
    pub fn accept_within(&self, timeout: Duration) -> io::Result<BrokeredConnection> {
        self.accepted.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::ErrorKind::NotConnected.into(),
        })
    }

    /// Withdraws the path. Connections that are already established can still be accepted.
    pub fn stop(&mut self) {
        self.registrar.stop();
    }
}

/// Joins a caller and queues the connection to be accepted.
fn connect(call: &IncomingCall, finished: &Sender<BrokeredConnection>) {
    match call.join() {
        Ok(connection) => match finished.try_send(connection) {
            Ok(()) => {}
            Err(TrySendError::Full(connection)) => {
                log::warn!("{call}: not accepted in time; closed");
                connection.reset();
            }
            // The publisher was dropped.
            Err(TrySendError::Disconnected(connection)) => connection.reset(),
        },
        Err(cause) => log::warn!("{call}: not served: {cause}"),
    }
}
