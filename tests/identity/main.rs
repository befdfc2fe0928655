//! Who a node is: keys and certificates, the CA that makes them, and what two peers make of each other's.

#[path = "../support/mod.rs"]
mod support;

mod ca;
mod ca_bad_input;
mod ca_life;
mod handshake;
mod openssl;
mod refusals;
mod reload;
mod rp_ca;
mod set_identity;
