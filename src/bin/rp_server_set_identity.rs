//! Checks a server's key, certificate and CA, then installs them.

use std::process::ExitCode;

use restpipe::run;

fn main() -> ExitCode {
    run::server_set_identity("rp_server_set_identity")
}
