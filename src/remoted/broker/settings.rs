//! The settings of a broker: time limits and bounds.

use std::time::Duration;

use crate::config::BrokerConfig;
use crate::sync::shares::Places;

/// A key may have so many times as many of each as are free, so that the first of another key always
/// finds a place.
pub(super) const KEY_WEIGHT: usize = 8;

/// All settings of a broker.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The operator's settings.
    pub config: BrokerConfig,
    /// Time limits.
    pub times: Times,
    /// Bounds.
    pub bounds: Bounds,
}

impl BrokerSettings {
    /// The original's times.
    pub fn new(config: BrokerConfig) -> Self {
        Self { config, times: Times::default(), bounds: Bounds::default() }
    }
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A TLS handshake, a whole head, and the pause before the next one on the same connection.
    pub head: Duration,
    /// All that a connection does without a valid key, however many requests it makes.
    pub keyless: Duration,
    /// How long a caller waits for its server.
    pub wait: Duration,
    /// A server is pinged after this much silence.
    pub ping_after: Duration,
    /// And closed if it does not answer within this time.
    pub pong_within: Duration,
    /// The time for the holder of a path to answer a ping when its server returns on a new connection.
    pub probe: Duration,
    /// The time for a server that is not ours to show that it has read its 101, once its caller has sent
    /// something.
    pub head_start: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(15),
            keyless: Duration::from_secs(15),
            wait: Duration::from_secs(60),
            ping_after: Duration::from_secs(30),
            pong_within: Duration::from_secs(30),
            probe: Duration::from_secs(2),
            head_start: Duration::from_secs(5),
        }
    }
}

/// Maximum number of each at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections of any kind.
    pub connections: usize,
    /// Connections that have not shown a valid key yet. Each has a thread, and an honest peer shows its
    /// key at once.
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

impl Bounds {
    /// The connections that keys share: some are left for those that have shown none yet.
    pub(super) fn places_of_keys(&self) -> Places {
        let keyless = self.keyless.min(self.connections / 16);
        Places::new(self.connections - keyless, usize::MAX).with_weight(KEY_WEIGHT)
    }
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
