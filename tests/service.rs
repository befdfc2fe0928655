//! Local services behind the pipe: real ones with a real caller, and scripted ones that stall, lie and
//! break off.

mod support;

#[path = "service/bytes.rs"]
mod bytes;
#[path = "service/connections.rs"]
mod connections;
#[path = "service/faults.rs"]
mod faults;
#[path = "service/harness.rs"]
mod harness;
#[path = "service/programs.rs"]
mod programs;
#[path = "service/streams.rs"]
mod streams;
