//! Checks a client's key, certificate and CA, then installs them.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use pico_args::Arguments;
use restpipe::config::IdentityFiles;
use restpipe::handler::Role;
use restpipe::identity::{self, GivenFiles};
use rustls::pki_types::UnixTime;

const HELP: &str = "\
rp_client_set_identity - checks a client's key, certificate and CA, then installs them

usage: rp_client_set_identity KEY CRT [CA]

KEY  the private key, PEM, not encrypted
CRT  its certificate, PEM, with intermediate certificates after it
CA   the certificate of the CA that signed it and the server's certificate, PEM; may
     be left out where one is installed already

  --help, --version

Nothing is written unless all checks pass. The files get mode 0600.

environment (default):
  RP_CLIENT_CERT_PATH     the directory to install into (/var/lib/restpipe)
  RP_CLIENT_KEY_FILENAME  (restpipe.client.key.pem)
  RP_CLIENT_CRT_FILENAME  (restpipe.client.crt.pem)
  RP_CA_CRT_FILENAME      (ca.crt.pem)

example:
  rp_client_set_identity client.key.pem client.crt.pem ca.crt.pem

exit: 0 done, 1 failed, 2 wrong usage
";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_env();
    if arguments.contains(["-h", "--help"]) {
        return say(HELP);
    }
    if arguments.contains(["-V", "--version"]) {
        return say(concat!("rp_client_set_identity ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    let Some(given) = given_files(arguments) else {
        eprintln!(
            "rp_client_set_identity: usage: rp_client_set_identity KEY CRT [CA] (see --help)"
        );
        return ExitCode::from(2);
    };
    let place = place();
    match identity::install(&given, &place, Role::Client, UnixTime::now()) {
        Ok(own) => say(&format!(
            "installed    {}\nname         {}\nexpires      {}\nsha256       {}\n",
            place.crt.display(),
            own.name,
            own.expires,
            own.fingerprint
        )),
        Err(error) => {
            eprintln!("rp_client_set_identity: {error}");
            ExitCode::FAILURE
        }
    }
}

/// None: wrong usage.
fn given_files(arguments: Arguments) -> Option<GivenFiles> {
    let mut paths = arguments.finish().into_iter().map(PathBuf::from);
    let given = GivenFiles { key: paths.next()?, crt: paths.next()?, ca: paths.next() };
    let all = [Some(&given.key), Some(&given.crt), given.ca.as_ref()];
    let no_option =
        all.iter().flatten().all(|path| !path.as_os_str().as_encoded_bytes().starts_with(b"-"));
    (paths.next().is_none() && no_option).then_some(given)
}

/// Where the environment wants the files.
fn place() -> IdentityFiles {
    let value = |name, default: &str| env::var_os(name).unwrap_or_else(|| default.into());
    let directory = PathBuf::from(value("RP_CLIENT_CERT_PATH", "/var/lib/restpipe"));
    IdentityFiles {
        key: directory.join(value("RP_CLIENT_KEY_FILENAME", "restpipe.client.key.pem")),
        crt: directory.join(value("RP_CLIENT_CRT_FILENAME", "restpipe.client.crt.pem")),
        ca: directory.join(value("RP_CA_CRT_FILENAME", "ca.crt.pem")),
    }
}

/// Prints to standard output; a reader that went away is not this program's failure.
fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
