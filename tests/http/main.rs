//! The local HTTP port as callers see it: raw bytes in, raw bytes out.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod bad_input;
mod downloads;
mod harness;
mod life;
mod uploads;
