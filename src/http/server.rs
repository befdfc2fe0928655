//! Starting and stopping the port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Bind;
use crate::event::inspect::Inspect;
use crate::event::pipe::Pipe;
use crate::http::budget::Budget;
use crate::http::guard::Guard;
use crate::http::shared::Shared;
use crate::http::slots::ConnectionSlots;
use crate::http::steering::Steering;
use crate::http::{HttpSettings, admit};
use crate::net::accept::{self, Acceptor, AtStop, BindError, Bound, SocketFile};
use crate::sync::line_budget::LineBudget;
use crate::sync::throttle::Throttle;

/// How long callers with an unfinished request have to read that the node is stopping.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(500);

/// How long to wait for connections to close after they were cut off.
const CUT_WAIT: Duration = Duration::from_secs(1);

/// How long a caller that has connected just before the stop may take to send its first request: it
/// cannot know of the stop.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// A running local HTTP port. Dropping it stops accepting.
pub struct HttpServer {
    shared: Arc<Shared>,
    address: Bind,
    /// Guards the accepting state. Stopping joins the accept thread while holding this lock; that
    /// thread never takes it.
    accepting: Mutex<Option<Accepting>>,
}

struct Accepting {
    acceptor: Acceptor,
    file: Option<SocketFile>,
}

impl HttpServer {
    /// Binds and starts accepting. Does not show the node's status.
    pub fn start(settings: HttpSettings, pipe: Arc<dyn Pipe>) -> Result<Self, BindError> {
        let bound = accept::listen(&settings.bind)?;
        Self::serve(bound, settings, pipe, None)
    }

    /// Like [`HttpServer::start`], and also serves `/`, `/status` and the other paths of the node.
    pub fn start_with(
        settings: HttpSettings,
        pipe: Arc<dyn Pipe>,
        inspect: Arc<dyn Inspect>,
    ) -> Result<Self, BindError> {
        let bound = accept::listen(&settings.bind)?;
        Self::start_on(bound, settings, pipe, inspect)
    }

    /// Like [`HttpServer::start_with`], on a socket that is already listening.
    pub(crate) fn start_on(
        bound: Bound,
        settings: HttpSettings,
        pipe: Arc<dyn Pipe>,
        inspect: Arc<dyn Inspect>,
    ) -> Result<Self, BindError> {
        Self::serve(bound, settings, pipe, Some(inspect))
    }

    fn serve(
        bound: Bound,
        settings: HttpSettings,
        pipe: Arc<dyn Pipe>,
        inspect: Option<Arc<dyn Inspect>>,
    ) -> Result<Self, BindError> {
        let Bound { socket: listener, address, file, handed } = bound;
        let most_held =
            settings.limits.max_held_bytes.unwrap_or(settings.max_body_bytes.saturating_mul(16));
        let shared = Arc::new(Shared {
            guard: Guard::new(&settings, &address),
            steering: Steering::default(),
            budget: Budget::new(most_held),
            slots: Arc::new(ConnectionSlots::new(settings.limits.max_connections)),
            callers_log: LineBudget::new("http"),
            unknown: Throttle::default(),
            panics: AtomicU64::new(0),
            settings,
            pipe,
            inspect,
        });
        let admitting = Arc::clone(&shared);
        let at_stop = if handed { AtStop::Leave } else { AtStop::Admit };
        let started = Acceptor::start("http", listener, at_stop, move |socket| {
            admit::admit(socket, &admitting);
        });
        match started {
            Ok(acceptor) => {
                let accepting = Mutex::new(Some(Accepting { acceptor, file }));
                Ok(Self { shared, address, accepting })
            }
            Err(e) => {
                if let Some(file) = file {
                    file.remove();
                }
                Err(BindError::after(&address, e))
            }
        }
    }

    /// The address it listens on, with the actual port if port 0 was requested.
    pub fn address(&self) -> &Bind {
        &self.address
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.slots.count()
    }

    /// The number of requests that panicked; each cost only its connection.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Whether connections are admitted. Takes the locks that admission takes.
    pub fn is_alive(&self) -> bool {
        // Takes the lock of the connection table; the count itself is irrelevant.
        let _ = self.connections();
        let accepting = self.accepting.lock();
        accepting.as_ref().is_some_and(|accepting| accepting.acceptor.is_alive())
    }

    /// Closes the listener, its socket file and idle connections at once. Requests in flight are
    /// answered with `Connection: close`, and so is the first request of a connection that has sent
    /// none yet. Idempotent.
    pub fn stop_accepting(&self) {
        let mut accepting = self.accepting.lock();
        let Some(Accepting { mut acceptor, file }) = accepting.take() else { return };
        if let Some(file) = file {
            file.remove();
        }
        acceptor.stop();
        self.shared.callers_log.finish();
        self.shared.slots.stop(true);
    }

    /// Stops accepting and waits until no request is in flight, not counting event streams. Returns
    /// whether that happened before the deadline. Connections without any request yet are closed
    /// after a second.
    pub fn finish(&self, deadline: Instant) -> bool {
        self.stop_accepting();
        let soon = Instant::now() + FIRST_REQUEST_WAIT;
        if self.shared.slots.wait_answered(soon.min(deadline)) {
            return true;
        }
        self.shared.slots.stop(false);
        self.shared.slots.wait_answered(deadline)
    }

    /// Stops accepting and waits until no request is in flight; cuts off those still in flight at
    /// `deadline`. Callers that have not sent all of their request by then are told so. Returns
    /// whether none had to be cut off; then all threads of the port have ended.
    pub fn drain(&self, deadline: Instant) -> bool {
        if self.finish(deadline) && self.shared.slots.wait_empty(deadline) {
            return true;
        }
        log::warn!("http: {} connections cut off at the end of the drain", self.connections());
        self.shared.slots.end_input();
        self.shared.slots.wait_empty(Instant::now() + LAST_WORDS_WAIT);
        self.shared.slots.cut();
        // A connection that waits for the pipe ends when the pipe does.
        self.shared.slots.wait_empty(Instant::now() + CUT_WAIT);
        false
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}
