//! The names of the steps, as the lines of a check show them.

pub(super) const CONFIGURATION: &str = "configuration";
pub(super) const FILES: &str = "files";
pub(super) const IDENTITY: &str = "key and certificate";
pub(super) const CLOCK: &str = "clock";
/// For a server: the name by which clients know it. For a client: resolving its server's name.
pub(super) const NAME: &str = "name";
/// The steps from a client to each of its servers, in this order.
pub(super) const TO_SERVER: [&str; 5] = [NAME, "TCP", "proxy", "TLS", "heartbeat"];
pub(super) const PORTS: &str = "ports";
pub(super) const DESCRIPTORS: &str = "descriptors";
