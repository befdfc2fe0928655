//! What the local HTTP port shows about its node.
//!
//! In scope: the trait. Not in scope: the content (`node`), paths and statuses (`http`).

use crate::event::Body;

/// A node from the operator's point of view.
pub trait Inspect: Send + Sync {
    /// The node and all its links, as JSON.
    fn status(&self) -> Body;

    /// The links of the client with this name, as JSON; `None` if there are none or this is not a
    /// server.
    fn client(&self, name: &str) -> Option<Body>;

    /// Closes the links of the client with this name. Returns how many there were.
    fn close_client(&self, name: &str) -> usize;

    /// Counters and gauges, in the Prometheus text format.
    fn metrics(&self) -> String;

    /// Whether requests can be served; the error says why not, in one line.
    fn ready(&self) -> Result<(), String>;

    /// Events from now on, as server-sent events; ends when the node stops or the reader falls
    /// behind. `None` if there are too many listeners.
    fn events(&self) -> Option<Body>;
}
