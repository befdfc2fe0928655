//! The broker of raw TCP, beside raw sockets that speak as the original's ends do, and real
//! programs.

mod support;

#[path = "remoted/bad_input.rs"]
mod bad_input;
#[path = "remoted/independent.rs"]
mod independent;
#[path = "remoted/operation.rs"]
mod operation;
#[path = "remoted/protocol.rs"]
mod protocol;
#[path = "remoted/scene.rs"]
mod scene;
