//! The identity of a node: keys and certificates, the CA that issues them, and how two peers verify them.

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
