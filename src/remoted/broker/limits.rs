//! How long things may take, and how many of them there may be.

use std::time::Duration;

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
