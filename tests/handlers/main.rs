//! Handlers at the other end of the pipe: files, programs, local services and TCP; and the rules for
//! requests to them.

#[path = "../support/mod.rs"]
mod support;

mod exec;
mod files;
mod rules;
mod service;
mod tcp;
