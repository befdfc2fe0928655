//! How long things may take, and how many of them there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A TLS handshake, a whole head, and the pause before the next one on the same connection.
    pub head: Duration,
    /// All that a connection does that has shown no good key, however many requests it makes.
    pub keyless: Duration,
    /// How long a caller waits for its server.
    pub wait: Duration,
    /// A server that was silent for so long is pinged.
    pub ping_after: Duration,
    /// And is given up after this much more of it.
    pub gone_after: Duration,
    /// How long the holder of a path has to answer when its server returns on a new connection.
    pub probe: Duration,
    /// What a server gets between its 101 and bytes that its caller had sent before: the original's
    /// loses those that it reads together with its 101.
    pub head_start: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(15),
            keyless: Duration::from_secs(15),
            wait: Duration::from_secs(60),
            ping_after: Duration::from_secs(30),
            gone_after: Duration::from_secs(30),
            probe: Duration::from_secs(2),
            head_start: Duration::from_millis(50),
        }
    }
}

/// How many of each there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections of any kind.
    pub connections: usize,
    /// Connections that have shown no good key yet. Each has a thread, and an honest one shows its key
    /// at once.
    pub keyless: usize,
    /// Registered paths.
    pub registrations: usize,
    /// Registered paths of one key.
    pub registrations_per_key: usize,
    /// Waiting callers.
    pub waiting: usize,
    /// Waiting callers of one path.
    pub waiting_per_path: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 16_384,
            keyless: 1024,
            registrations: 4096,
            registrations_per_key: 1024,
            waiting: 8192,
            waiting_per_path: 2048,
        }
    }
}

/// Places for connections.
pub(super) struct Slots {
    taken: Arc<AtomicUsize>,
    most: usize,
}

impl Slots {
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// A place, if there is one left.
    pub fn take(&self) -> Option<Slot> {
        if self.taken.fetch_add(1, Ordering::AcqRel) >= self.most {
            self.taken.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Slot(Arc::clone(&self.taken)))
    }
}

/// A place, given back when dropped.
pub(super) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many of something there are.
#[derive(Default)]
pub(super) struct Tally {
    /// Guards the number; nothing is done while it is held.
    count: Mutex<usize>,
    none_left: Condvar,
}

impl Tally {
    /// One more, until what this returns is dropped.
    pub fn enter(&self) -> Entered<'_> {
        *self.count.lock() += 1;
        Entered(self)
    }

    /// Waits until none is left. Returns how many are at `deadline`.
    pub fn wait(&self, deadline: Instant) -> usize {
        let mut count = self.count.lock();
        let left = deadline.saturating_duration_since(Instant::now());
        self.none_left.wait_while_for(&mut count, |count| *count > 0, left);
        *count
    }
}

/// One of them.
pub(super) struct Entered<'a>(&'a Tally);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut count = self.0.count.lock();
        *count -= 1;
        if *count == 0 {
            self.0.none_left.notify_all();
        }
    }
}
