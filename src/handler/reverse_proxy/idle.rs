//! The connections that wait for their next request.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::ServiceConnection;

/// Most that wait.
const MAX_IDLE: usize = 64;
/// How long one may wait: shorter than the five seconds after which many services close them.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);
/// The same where the request could not be repeated on another: no service closes one so soon.
const MAX_IDLE_TIME_UNREPEATABLE: Duration = Duration::from_secs(1);

/// IdleConnections connections; the one that was used last is taken first.
#[derive(Default)]
pub(super) struct IdleConnections {
    /// Guards the connections, the oldest first. None is read, written or closed while it is held.
    waiting: Mutex<Vec<(Instant, ServiceConnection)>>,
}

impl IdleConnections {
    /// One that is still open, for a request that can be repeated where it turns out that it is not,
    /// or for one that cannot.
    pub fn take(&self, repeatable: bool) -> Option<ServiceConnection> {
        let longest = if repeatable { MAX_IDLE_TIME } else { MAX_IDLE_TIME_UNREPEATABLE };
        loop {
            let (since, connection) = self.waiting.lock().pop()?;
            if since.elapsed() > longest {
                // The others are older still.
                self.drop_old();
                return None;
            }
            if !connection.is_stale() {
                return Some(connection);
            }
        }
    }

    /// Keeps one whose reply was read whole.
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
