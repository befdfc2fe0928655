//! The broker of raw TCP, beside raw sockets that speak as the original's ends do, and real
//! programs.

mod bad_input;
mod independent;
mod operation;
mod protocol;
mod scene;
