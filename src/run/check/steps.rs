//! The names of the steps, as the lines of a check show them.

pub(super) const CONFIGURATION: &str = "configuration";
pub(super) const FILES: &str = "files";
pub(super) const IDENTITY: &str = "key and certificate";
pub(super) const CLOCK: &str = "clock";
/// Of a server: by which name clients know it. Of a client: the address of its server's name.
pub(super) const NAME: &str = "name";
/// The way from a client to each of its servers, in this order.
pub(super) const TO_SERVER: [&str; 5] = [NAME, "TCP", "proxy", "TLS", "heartbeat"];
pub(super) const PORTS: &str = "ports";
pub(super) const DESCRIPTORS: &str = "descriptors";
