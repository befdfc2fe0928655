//! What answers a request at the other end of the pipe: files, programs, local services and TCP; and who
//! may ask for it.

#[path = "../support/mod.rs"]
mod support;

mod exec;
mod files;
mod rules;
mod service;
mod tcp;
