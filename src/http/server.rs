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
use crate::http::{HttpSettings, admit};
use crate::net::accept::{self, Acceptor, BindError, Bound, SocketFile};
use crate::sync::throttle::Throttle;

/// How long connections that were cut get to end.
const CUT_WAIT: Duration = Duration::from_secs(1);

/// How long a connection that has just been accepted may take to ask, where callers are not to notice
/// that this process ends.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// A running local HTTP port. Dropping it stops accepting.
pub struct HttpServer {
    shared: Arc<Shared>,
    address: Bind,
    /// Guards what stopping takes away. Stopping joins the accept thread while it is held; that
    /// thread never takes it.
    accepting: Mutex<Option<Accepting>>,
    /// Callers go on to the next process: none of them may see that this one ends.
    handed: bool,
}

struct Accepting {
    acceptor: Acceptor,
    file: Option<SocketFile>,
}

impl HttpServer {
    /// Binds, and accepts from the moment it returns. Shows nothing of its node.
    pub fn start(settings: HttpSettings, pipe: Arc<dyn Pipe>) -> Result<Self, BindError> {
        let bound = accept::listen(&settings.bind)?;
        Self::serve(bound, settings, pipe, None)
    }

    /// As [`HttpServer::start`], and shows the node on `/`, `/status` and their like.
    pub fn start_with(
        settings: HttpSettings,
        pipe: Arc<dyn Pipe>,
        inspect: Arc<dyn Inspect>,
    ) -> Result<Self, BindError> {
        let bound = accept::listen(&settings.bind)?;
        Self::start_on(bound, settings, pipe, inspect)
    }

    /// As [`HttpServer::start_with`], on a socket that listens already.
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
            guard: Guard::new(&settings.allowed_hosts, &address),
            budget: Budget::new(most_held),
            slots: Arc::new(ConnectionSlots::new(settings.limits.max_connections)),
            refusals: Throttle::default(),
            unknown: Throttle::default(),
            crowded: Throttle::default(),
            panics: AtomicU64::new(0),
            settings,
            pipe,
            inspect,
        });
        let admitting = Arc::clone(&shared);
        let started = Acceptor::start_bound("http", listener, handed, move |socket| {
            admit::admit(socket, &admitting);
        });
        match started {
            Ok(acceptor) => {
                let accepting = Mutex::new(Some(Accepting { acceptor, file }));
                Ok(Self { shared, address, accepting, handed })
            }
            Err(e) => {
                if let Some(file) = file {
                    file.remove();
                }
                Err(BindError::after(&address, e))
            }
        }
    }

    /// Where it listens: the real port, also where port 0 was asked for.
    pub fn address(&self) -> &Bind {
        &self.address
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.slots.count()
    }

    /// The number of requests that panicked; each cost its connection.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Whether callers are let in. Waits for the locks that each of them passes.
    pub fn is_alive(&self) -> bool {
        // The table of connections; how many there are does not matter.
        let _ = self.connections();
        let accepting = self.accepting.lock();
        accepting.as_ref().is_some_and(|accepting| accepting.acceptor.is_alive())
    }

    /// Closes the listener and its socket file at once, and connections that wait for a request.
    /// Requests in flight are answered, with `Connection: close`. Calling it again does nothing.
    pub fn stop_accepting(&self) {
        let mut accepting = self.accepting.lock();
        let Some(Accepting { mut acceptor, file }) = accepting.take() else { return };
        if let Some(file) = file {
            file.remove();
        }
        acceptor.stop();
        self.shared.slots.stop(self.handed);
    }

    /// Stops accepting and waits until no request is in flight; who listens to events only is none.
    /// Returns whether that was before the deadline.
    pub fn finish(&self, deadline: Instant) -> bool {
        self.stop_accepting();
        if self.handed {
            let soon = Instant::now() + FIRST_REQUEST_WAIT;
            if self.shared.slots.wait_answered(soon.min(deadline)) {
                return true;
            }
            self.shared.slots.stop(false);
        }
        self.shared.slots.wait_answered(deadline)
    }

    /// Stops accepting and waits until no request is in flight. What still is at `deadline` is cut
    /// off. Returns whether nothing had to be; then all threads of the port have ended.
    pub fn drain(&self, deadline: Instant) -> bool {
        if self.finish(deadline) && self.shared.slots.wait_empty(deadline) {
            return true;
        }
        log::warn!("http: {} connections cut off at the end of the drain", self.connections());
        self.shared.slots.cut();
        // One that waits for the pipe ends when the pipe does.
        self.shared.slots.wait_empty(Instant::now() + CUT_WAIT);
        false
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}
