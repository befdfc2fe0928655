//! The connections that wait for their next request.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::connection::Connection;

/// Most that wait.
const MOST: usize = 64;
/// How long one may wait: shorter than the five seconds after which many services close them.
const LONGEST: Duration = Duration::from_secs(4);
/// The same where the request could not be repeated on another: no service closes one so soon.
const BRIEF: Duration = Duration::from_secs(1);

/// Idle connections; the one that was used last is taken first.
#[derive(Default)]
pub(super) struct Idle {
    /// Guards the connections, the oldest first. None is read, written or closed while it is held.
    waiting: Mutex<Vec<(Instant, Connection)>>,
}

impl Idle {
    /// One that is still open, for a request that can be repeated where it turns out that it is not,
    /// or for one that cannot.
    pub fn take(&self, repeatable: bool) -> Option<Connection> {
        let longest = if repeatable { LONGEST } else { BRIEF };
        loop {
            let (since, connection) = self.lock().pop()?;
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
    pub fn give(&self, connection: Connection) {
        let mut waiting = self.lock();
        if waiting.len() < MOST {
            waiting.push((Instant::now(), connection));
        }
        let is_old = waiting.first().is_some_and(|(since, _)| since.elapsed() > LONGEST);
        drop(waiting);
        if is_old {
            self.drop_old();
        }
    }

    fn drop_old(&self) {
        let mut waiting = self.lock();
        let count = waiting.iter().take_while(|(since, _)| since.elapsed() > LONGEST).count();
        let old: Vec<_> = waiting.drain(..count).collect();
        drop(waiting);
        drop(old);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.waiting.lock()
    }
}
