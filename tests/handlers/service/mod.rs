//! Local services behind the pipe: real ones with a real caller, and scripted ones that stall, lie and
//! disconnect.

mod bytes;
mod connections;
mod faults;
mod harness;
mod passing;
mod programs;
mod streams;
