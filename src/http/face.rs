//! Starting and stopping the port.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use socket2::Socket;

use crate::config::Bind;
use crate::http::budget::Budget;
use crate::http::guard::Guard;
use crate::http::slots::Slots;
use crate::http::socket::{self, BindError, Bound, SocketFile};
use crate::http::throttle::Throttle;
use crate::http::{Settings, accept};
use crate::pipe::Pipe;

/// How long connections that were cut get to end.
const CUT_WAIT: Duration = Duration::from_secs(1);

/// A running local HTTP port. Dropping it stops accepting.
pub struct Face {
    shared: Arc<Shared>,
    address: Bind,
    /// Guards what stopping takes away. Stopping joins the accept thread while it is held; that
    /// thread never takes it.
    accepting: Mutex<Option<Accepting>>,
}

/// What all connections of a face use.
pub(super) struct Shared {
    pub settings: Settings,
    pub pipe: Arc<dyn Pipe>,
    pub guard: Guard,
    pub budget: Budget,
    pub slots: Arc<Slots>,
    /// Keeps refused requests from flooding the log.
    pub refusals: Throttle,
    /// Requests that panicked.
    pub panics: AtomicU64,
}

struct Accepting {
    listener: Socket,
    file: Option<SocketFile>,
    /// Dropped to wake the accept thread from a pause.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Face {
    /// Binds, and accepts from the moment it returns.
    pub fn start(settings: Settings, pipe: Arc<dyn Pipe>) -> Result<Self, BindError> {
        let Bound { socket: listener, address, file } = socket::listen(&settings.bind)?;
        let most_held =
            settings.limits.max_held_bytes.unwrap_or(settings.max_body_bytes.saturating_mul(16));
        let shared = Arc::new(Shared {
            guard: Guard::new(&settings.allowed_hosts, &address),
            budget: Budget::new(most_held),
            slots: Arc::new(Slots::new(settings.limits.max_connections)),
            refusals: Throttle::default(),
            panics: AtomicU64::new(0),
            settings,
            pipe,
        });
        match spawn(listener, &shared) {
            Ok((listener, stop, thread)) => {
                let accepting = Mutex::new(Some(Accepting { listener, file, stop, thread }));
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

    /// Closes the listener and its socket file at once, and connections that wait for a request.
    /// Requests in flight are answered, with `Connection: close`. Calling it again does nothing.
    pub fn stop_accepting(&self) {
        let mut accepting = self.accepting.lock().unwrap_or_else(|e| e.into_inner());
        let Some(Accepting { listener, file, stop, thread }) = accepting.take() else { return };
        if let Some(file) = file {
            file.remove();
        }
        self.shared.slots.stop();
        // On Linux this wakes a thread that is in `accept`, and refuses callers from here on.
        let woken = listener.shutdown(Shutdown::Both);
        drop(stop);
        match woken {
            // The accept thread never waits for anything else, so this is short.
            Ok(()) => {
                if thread.join().is_err() {
                    log::error!("http: the accept thread had panicked");
                }
            }
            Err(e) => log::warn!("http: the listener does not stop: {e}"),
        }
    }

    /// Stops accepting and waits until no request is in flight. What still is at `deadline` is cut
    /// off. Returns whether nothing had to be; then all threads of the face have ended.
    pub fn drain(&self, deadline: Instant) -> bool {
        self.stop_accepting();
        if self.shared.slots.wait_empty(deadline) {
            return true;
        }
        log::warn!("http: {} connections cut off at the end of the drain", self.connections());
        self.shared.slots.cut();
        // One that waits for the pipe ends when the pipe does.
        self.shared.slots.wait_empty(Instant::now() + CUT_WAIT);
        false
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}

type Spawned = (Socket, Sender<()>, JoinHandle<()>);

fn spawn(listener: Socket, shared: &Arc<Shared>) -> io::Result<Spawned> {
    let (stop, stopped) = bounded(0);
    let shared = Arc::clone(shared);
    let accepting = listener.try_clone()?;
    let thread = thread::Builder::new()
        .name("http-accept".to_owned())
        .spawn(move || accept::run(&accepting, &shared, &stopped))?;
    Ok((listener, stop, thread))
}
