//! What the local HTTP port shows of its node.
//!
//! In scope: the trait by which it asks. Not in scope: what is shown (`node`), paths and statuses
//! (`http`).

use crate::event::Body;

/// A node as those see it who run it.
pub trait Inspect: Send + Sync {
    /// The node and all its links, as JSON.
    fn status(&self) -> Body;

    /// The links of the client of this name, as JSON; `None` where there are none, or this is no server.
    fn client(&self, name: &str) -> Option<Body>;

    /// Closes the links of the client of this name. Returns how many there were.
    fn close_client(&self, name: &str) -> usize;

    /// Counts and levels, in the text form of Prometheus.
    fn metrics(&self) -> String;

    /// Whether requests would get through; the error says why not, in a line.
    fn ready(&self) -> Result<(), String>;

    /// What happens from now on, as server-sent events; it ends when the node stops, or when they are
    /// not taken. `None` where too many listen already.
    fn events(&self) -> Option<Body>;
}
