//! The broker of raw TCP against raw sockets that speak like the original's ends, and real
//! programs.

mod bad_input;
mod independent;
mod operation;
mod protocol;
mod scene;
