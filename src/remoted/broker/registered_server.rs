//! A registered server as other connections see it: they send it notices of callers, probe it, and end
//! its session.
//!
//! In scope: the bounded queues to its session. Not in scope: the session (`session`), and which server
//! holds which path (`waiting_callers`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::remoted::keys::KeyEntry;
use crate::remoted::waker::Waker;

/// Maximum number of queued notices.
const MAX_NOTICES: usize = 2048;
/// Maximum number of concurrent probes of one server.
pub(super) const MAX_PROBES: usize = 16;

/// A server that has, or had, a path.
pub(super) struct RegisteredServer {
    pub path: String,
    pub key: Arc<KeyEntry>,
    notices: Sender<String>,
    probes: Sender<Sender<()>>,
    /// Why its session is to end. Held only to read or replace it.
    end: Mutex<Option<EvictionReason>>,
    pub waker: Waker,
}

/// The session's ends of the queues.
pub(super) struct SessionInbox {
    pub notices: Receiver<String>,
    /// Each expects one message at the server's next sign of life.
    pub probes: Receiver<Sender<()>>,
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
        let (probes, queued_probes) = bounded(MAX_PROBES);
        let (path, end, waker) = (path.to_owned(), Mutex::new(None), Waker::new()?);
        let server = Arc::new(Self { path, key, notices, probes, end, waker });
        Ok((server, SessionInbox { notices: queued_notices, probes: queued_probes }))
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

    /// Probes the server. False if it gives no sign of life within this time.
    pub fn is_alive(&self, within: Duration) -> bool {
        let (answer, answered) = bounded(1);
        // A server that returns does not open that many connections at once.
        if self.probes.try_send(answer).is_err() {
            return true;
        }
        self.waker.wake();
        // Disconnected: its thread has ended meanwhile.
        answered.recv_timeout(within).is_ok()
    }
}
