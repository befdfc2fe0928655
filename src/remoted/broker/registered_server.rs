//! A registered server as other connections see it: they send it notices of callers, ping it, and end
//! its session.
//!
//! In scope: the bounded queues to its session. Not in scope: the session (`session`), and which server
//! holds which path (`waiting_callers`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use crate::remoted::keys::KeyEntry;
use crate::remoted::waker::Waker;

/// Maximum number of queued notices.
const MAX_NOTICES: usize = 2048;
/// Maximum number of pings of one server that are not answered yet.
pub(super) const MAX_PINGS: usize = 256;

/// A server that has, or had, a path.
pub(super) struct RegisteredServer {
    pub path: String,
    pub key: Arc<KeyEntry>,
    notices: Sender<String>,
    pings: Sender<Sender<()>>,
    /// Why its session is to end. Held only to read or replace it.
    end: Mutex<Option<EvictionReason>>,
    pub waker: Waker,
    /// It has not answered a ping in time, nor any since.
    pub is_mute: AtomicBool,
}

/// The session's ends of the queues.
pub(super) struct SessionInbox {
    pub notices: Receiver<String>,
    /// Each expects one message when the server has answered its ping.
    pub pings: Receiver<Sender<()>>,
}

/// Why the broker ends a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvictionReason {
    /// The broker is stopping.
    Stopping,
    /// Its key is no longer in the file of keys, or no longer valid for this path.
    KeyRemoved,
    /// The server has returned on another connection.
    Replaced,
}

impl EvictionReason {
    /// The text for the server and the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Stopping => "the broker is stopping",
            Self::KeyRemoved => "the key is gone",
            Self::Replaced => "returned on another connection",
        }
    }
}

impl RegisteredServer {
    pub fn new(path: &str, key: Arc<KeyEntry>) -> io::Result<(Arc<Self>, SessionInbox)> {
        let (notices, queued_notices) = bounded(MAX_NOTICES);
        let (pings, queued_pings) = bounded(MAX_PINGS);
        let (path, end, waker) = (path.to_owned(), Mutex::new(None), Waker::new()?);
        let is_mute = AtomicBool::new(false);
        let server = Arc::new(Self { path, key, notices, pings, end, waker, is_mute });
        Ok((server, SessionInbox { notices: queued_notices, pings: queued_pings }))
    }

    /// Queues a notice of a caller. False if the queue is full.
    pub fn notify(&self, notice: String) -> bool {
        let is_queued = self.notices.try_send(notice).is_ok();
        self.waker.wake();
        is_queued
    }

    /// Ends its session. By now the path must be free or belong to another server.
    pub fn end(&self, why: EvictionReason) {
        self.end.lock().get_or_insert(why);
        self.waker.wake();
    }

    /// Why its session is to end, if it is.
    pub fn ending(&self) -> Option<EvictionReason> {
        *self.end.lock()
    }

    /// Pings the server. Fails if its session has ended, or if too many pings are not answered yet.
    pub fn ping(&self) -> Result<PingAnswer, PingError> {
        let (answer, answered) = bounded(1);
        match self.pings.try_send(answer) {
            Ok(()) => self.waker.wake(),
            Err(TrySendError::Full(_)) => return Err(PingError::Silent),
            Err(TrySendError::Disconnected(_)) => return Err(PingError::Ended),
        }
        Ok(PingAnswer(answered))
    }

    /// Whether the server answers a ping within this time.
    pub fn is_alive(&self, within: Duration) -> bool {
        self.ping().and_then(|answer| answer.wait(within)).is_ok()
    }
}

/// The answer to one ping, which is still to come.
pub(super) struct PingAnswer(Receiver<()>);

/// Why there is no answer to a ping.
#[derive(Debug)]
pub(super) enum PingError {
    /// None has come yet.
    Silent,
    /// The server's session has ended.
    Ended,
}

impl PingAnswer {
    /// Waits for it for this time.
    pub fn wait(&self, time: Duration) -> Result<(), PingError> {
        self.0.recv_timeout(time).map_err(|error| match error {
            RecvTimeoutError::Timeout => PingError::Silent,
            RecvTimeoutError::Disconnected => PingError::Ended,
        })
    }
}
