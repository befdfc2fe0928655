//! Runs a server with the `example` handler.

use std::process::ExitCode;

use restpipe::run::{self, Handlers};

fn main() -> ExitCode {
    run::server("rp_server_start", Handlers::new())
}
