//! A registered server as other connections see it: they send it notices of callers, ask whether it is
//! alive, and end it.
//!
//! In scope: the bounded queues to its session. Not in scope: the session (`session`), and which server
//! has which path (`waiting_callers`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::remoted::keys::KeyEntry;
use crate::remoted::waker::Waker;

/// Notices that a server has not taken yet.
const MAX_NOTICES: usize = 2048;
/// Connections that wait for a sign of life of one server at the same time.
pub(super) const MAX_PROBES: usize = 16;

/// A server that has, or had, a path.
pub(super) struct RegisteredServer {
    pub path: String,
    pub key: Arc<KeyEntry>,
    notices: Sender<String>,
    probes: Sender<Sender<()>>,
    /// Guards why it is to end; nothing else is done while it is held.
    end: Mutex<Option<EvictionReason>>,
    pub waker: Waker,
}

/// What a server's session takes from other connections.
pub(super) struct SessionInbox {
    pub notices: Receiver<String>,
    /// Each expects one message when the server gives a sign of life.
    pub probes: Receiver<Sender<()>>,
}

/// Why the broker ends a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvictionReason {
    /// The broker is stopping.
    Stopping,
    /// Its key is no longer in the file of keys, or no longer for this path.
    KeyRemoved,
    /// The server has returned on another connection.
    Replaced,
}

impl EvictionReason {
    /// For the server and for the log.
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

    /// Queues a notice of a caller. False where the queue is full.
    pub fn notify(&self, notice: String) -> bool {
        let is_queued = self.notices.try_send(notice).is_ok();
        self.waker.wake();
        is_queued
    }

    /// Ends it. The path must be free, or another server's, by now.
    pub fn end(&self, why: EvictionReason) {
        self.end.lock().get_or_insert(why);
        self.waker.wake();
    }

    /// Why it is to end, once it is.
    pub fn ending(&self) -> Option<EvictionReason> {
        *self.end.lock()
    }

    /// Whether it gives a sign of life within this time.
    pub fn is_alive(&self, within: Duration) -> bool {
        let (answer, answered) = bounded(1);
        // One server that returns does not come with so many connections at once.
        if self.probes.try_send(answer).is_err() {
            return true;
        }
        self.waker.wake();
        // Disconnected: its thread has ended meanwhile.
        answered.recv_timeout(within).is_ok()
    }
}
