//! Carries standard input and output to a target on the other side of a pipe.

use std::process::ExitCode;

fn main() -> ExitCode {
    restpipe::run::tcp()
}
