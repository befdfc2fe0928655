//! Checks a client's key, certificate and CA, then installs them.

use std::process::ExitCode;

use restpipe::run;

fn main() -> ExitCode {
    run::client_set_identity("rp_client_set_identity")
}
