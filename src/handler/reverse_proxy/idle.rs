//! The pool of idle connections.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::ServiceConnection;
use crate::sync::deadline::time_left;
use crate::sync::threads;

/// Maximum number of idle connections.
const MAX_IDLE: usize = 64;
/// Maximum idle time: less than the five seconds after which many services close a connection.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);
/// Stack size of the closing thread.
const STACK_BYTES: usize = 64 * 1024;

/// Idle connections; the most recently used is taken first. As long as there are any, a thread closes
/// those whose time is over.
#[derive(Default)]
pub(super) struct IdleConnections {
    /// No connection is read, written or closed under this lock.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connections and since when they are idle, oldest first.
    waiting: Vec<(Instant, ServiceConnection)>,
    /// The closing thread runs.
    is_tended: bool,
}

impl IdleConnections {
    /// Takes a connection that is still open.
    pub fn take(&self) -> Option<ServiceConnection> {
        loop {
            let (since, connection) = self.state.lock().waiting.pop()?;
            if since.elapsed() < MAX_IDLE_TIME && !connection.is_stale() {
                return Some(connection);
            }
        }
    }

    /// Returns a connection whose reply was read completely.
    pub fn give(self: &Arc<Self>, connection: ServiceConnection) {
        let mut state = self.state.lock();
        if state.waiting.len() >= MAX_IDLE {
            drop(state);
            return drop(connection);
        }
        state.waiting.push((Instant::now(), connection));
        if !state.is_tended {
            let own = Arc::downgrade(self);
            let started =
                threads::spawn_with_stack("service-idle", STACK_BYTES, move || tend(&own));
            // Without a thread the next return tries again.
            state.is_tended = started.is_ok();
        }
    }

    /// Closes the connections whose time is over. Returns when to do so again; none if no connection
    /// is left.
    fn close_overdue(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let is_over = |(since, _): &&(Instant, _)| since.elapsed() >= MAX_IDLE_TIME;
        let count = state.waiting.iter().take_while(is_over).count();
        let over: Vec<_> = state.waiting.drain(..count).collect();
        let next = state.waiting.first().map(|(since, _)| *since + MAX_IDLE_TIME);
        state.is_tended = next.is_some();
        drop(state);
        drop(over);
        next
    }
}

/// Holds the pool only at times, so that dropping it closes all connections at once.
fn tend(pool: &Weak<IdleConnections>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.close_overdue()) {
        thread::sleep(time_left(next));
    }
}
