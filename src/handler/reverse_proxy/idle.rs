//! The pool of idle connections.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::ServiceConnection;

/// Maximum number of idle connections.
const MAX_IDLE: usize = 64;
/// Maximum idle time: less than the five seconds after which many services close a connection.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);
/// The same for a request that cannot be repeated: no service closes a connection so soon.
const MAX_IDLE_TIME_UNREPEATABLE: Duration = Duration::from_secs(1);

/// Idle connections; the most recently used is taken first.
#[derive(Default)]
pub(super) struct IdleConnections {
    /// The connections, oldest first. No connection is read, written or closed under this lock.
    waiting: Mutex<Vec<(Instant, ServiceConnection)>>,
}

impl IdleConnections {
    /// Takes a connection that is still open. With `repeatable`, the request can be sent again if
    /// the service turns out to have closed the connection.
    pub fn take(&self, repeatable: bool) -> Option<ServiceConnection> {
        let longest = if repeatable { MAX_IDLE_TIME } else { MAX_IDLE_TIME_UNREPEATABLE };
        loop {
            let (since, connection) = self.waiting.lock().pop()?;
            if since.elapsed() > longest {
                // All others have been idle longer.
                self.drop_old();
                return None;
            }
            if !connection.is_stale() {
                return Some(connection);
            }
        }
    }

    /// Returns a connection whose reply was read completely.
    pub fn give(&self, connection: ServiceConnection) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_IDLE {
            waiting.push((Instant::now(), connection));
        }
        let is_old = waiting.first().is_some_and(|(since, _)| since.elapsed() > MAX_IDLE_TIME);
        drop(waiting);
        if is_old {
            self.drop_old();
        }
    }

    fn drop_old(&self) {
        let mut waiting = self.waiting.lock();
        let count = waiting.iter().take_while(|(since, _)| since.elapsed() > MAX_IDLE_TIME).count();
        let old: Vec<_> = waiting.drain(..count).collect();
        drop(waiting);
        drop(old);
    }
}
