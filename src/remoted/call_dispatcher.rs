//! Gives each caller of a registered path a thread, up to a bound, and turns away those beyond it.
//!
//! In scope: bounds and threads. Not in scope: how notices arrive (`registrar`), and how a caller is
//! served (`publisher`, `publication`).

use std::sync::Arc;

use super::incoming_call::IncomingCall;
use crate::sync::permits::Permits;
use crate::sync::throttle::Throttle;
use crate::sync::workers::Workers;

/// Maximum number of callers being turned away at once. Each takes a connection, too.
const MAX_TURNED_AWAY: usize = 32;

/// Maximum number of callers served at once, and their threads. Paths can share it.
#[derive(Clone)]
pub(super) struct CallCapacity {
    pub permits: Arc<Permits>,
    turned_away: Arc<Permits>,
    pub workers: Arc<Workers>,
    /// Why a caller beyond the bound is refused, for the log.
    full: &'static str,
}

impl CallCapacity {
    pub fn new(max: usize, worker_name: &'static str, full: &'static str) -> Self {
        Self {
            permits: Permits::new(max),
            turned_away: Permits::new(MAX_TURNED_AWAY),
            workers: Arc::new(Workers::new(worker_name)),
            full,
        }
    }
}

/// Dispatches the callers of one path.
pub(super) struct CallDispatcher {
    capacity: CallCapacity,
    full: Throttle,
    /// Serves a caller until its end.
    serve: Arc<dyn Fn(Arc<IncomingCall>) + Send + Sync>,
    on_registered: Box<dyn Fn() + Send>,
}

impl CallDispatcher {
    /// `on_registered` is called each time the path is registered. It must not block.
    pub fn new(
        capacity: CallCapacity,
        serve: impl Fn(Arc<IncomingCall>) + Send + Sync + 'static,
        on_registered: impl Fn() + Send + 'static,
    ) -> Self {
        let (serve, on_registered) = (Arc::new(serve), Box::new(on_registered));
        Self { capacity, full: Throttle::default(), serve, on_registered }
    }

    /// The path is registered, for the first time or again.
    pub fn registered(&self) {
        (self.on_registered)();
    }

    /// Serves a caller or turns it away, on its own thread. It never blocks.
    pub fn dispatch(&self, call: IncomingCall) {
        let CallCapacity { permits, turned_away, full, .. } = &self.capacity;
        let call = Arc::new(call);
        if let Some(permit) = permits.take() {
            let (serve, served) = (Arc::clone(&self.serve), Arc::clone(&call));
            self.run(&call, move || {
                serve(served);
                drop(permit);
            });
            return;
        }
        if let Some(more) = self.full.allow() {
            log::warn!("{}: {} is refused: {full}{more}", call.url, call.notice.shown);
        }
        // Callers beyond this bound run into the broker's time limit.
        if let Some(permit) = turned_away.take() {
            let refused = Arc::clone(&call);
            self.run(&call, move || {
                refused.turn_away();
                drop(permit);
            });
        }
    }

    fn run(&self, call: &IncomingCall, job: impl FnOnce() + Send + 'static) {
        if let Err(error) = self.capacity.workers.run(job) {
            log::warn!("{call}: not served: no thread for it: {error}");
        }
    }
}
