//! Runs a client with the `example` handler.

use std::process::ExitCode;

use restpipe::run::{self, Handlers};

fn main() -> ExitCode {
    run::client("rp_client_start", Handlers::new())
}
