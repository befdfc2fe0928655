//! Installing an identity as a whole program: files in, exit code out.

use std::process::ExitCode;

use pico_args::Arguments;
use rustls::pki_types::UnixTime;

use crate::config::{Environment, IdentityFiles, Reader};
use crate::event::peer::Role;
use crate::identity::{self, ExpiryNotice, GivenFiles};
use crate::run::cli::source::{self, SettingsSource};
use crate::run::cli::{self, CliFailure, Program};

/// Checks a server's key, certificate and CA, then installs them: the complete `main` of a program
/// with this name.
pub fn server_set_identity(name: &'static str) -> ExitCode {
    let program = Program {
        name,
        about: "Checks a server's key, certificate and CA, then installs them.\n\
                Nothing is written unless all checks pass. The files get mode 0600.",
        usage: "[--config FILE] KEY CRT CA",
        arguments: &[
            KEY,
            CRT,
            ("CA", "the certificate of the CA that signed it and the clients' certificates, PEM"),
            source::CONFIG,
        ],
        examples: "{name} server.key.pem server.crt.pem ca.crt.pem",
        reads: Some(Reader::ServerSetIdentity),
    };
    main(&program, Role::Server)
}

/// Checks a client's key, certificate and CA, then installs them: the complete `main` of a program
/// with this name. The CA may be omitted if one is already installed.
pub fn client_set_identity(name: &'static str) -> ExitCode {
    let program = Program {
        name,
        about: "Checks a client's key, certificate and CA, then installs them.\n\
                Nothing is written unless all checks pass. The files get mode 0600.",
        usage: "[--config FILE] KEY CRT [CA]",
        arguments: &[
            KEY,
            CRT,
            ("CA", "the certificate of the CA that signed it and the server's certificate, PEM;"),
            ("", "may be left out where one is installed already"),
            source::CONFIG,
        ],
        examples: "{name} client.key.pem client.crt.pem ca.crt.pem",
        reads: Some(Reader::ClientSetIdentity),
    };
    main(&program, Role::Client)
}

const KEY: (&str, &str) = ("KEY", "the private key, PEM, not encrypted");
const CRT: (&str, &str) = ("CRT", "its certificate, PEM, with intermediate certificates after it");

fn main(program: &Program, role: Role) -> ExitCode {
    let reader = match role {
        Role::Server => Reader::ServerSetIdentity,
        Role::Client => Reader::ClientSetIdentity,
    };
    let parse = |arguments: &mut Arguments| {
        let source = SettingsSource::parse(arguments, reader)?;
        Ok((given_files(arguments, role)?, source))
    };
    cli::main(program, parse, |(given, source)| {
        install(program, role, &given, &source.environment()?)
    })
}

fn given_files(arguments: &mut Arguments, role: Role) -> Result<GivenFiles, CliFailure> {
    Ok(GivenFiles {
        key: cli::path(arguments, "KEY")?,
        crt: cli::path(arguments, "CRT")?,
        ca: match role {
            Role::Server => Some(cli::path(arguments, "CA")?),
            Role::Client => cli::optional_positional(arguments)?.map(Into::into),
        },
    })
}

fn install(
    program: &Program,
    role: Role,
    given: &GivenFiles,
    env: &Environment,
) -> Result<(), CliFailure> {
    let (place, warnings) = match role {
        Role::Server => IdentityFiles::server(env)?,
        Role::Client => IdentityFiles::client(env)?,
    };
    for warning in warnings {
        cli::warn(program, warning);
    }
    let own =
        identity::install(given, &place, role, UnixTime::now()).map_err(CliFailure::failed)?;
    // The installed copy has mode 0600; this one may have been read.
    if let Some(text) = identity::open_key(&given.key) {
        cli::warn(program, text);
    }
    if let Some(notice) = ExpiryNotice::certificate("the certificate", &own, UnixTime::now()) {
        cli::warn(program, notice.text);
    }
    cli::say(&format!(
        "installed    {}\nname         {}\nexpires      {}\nsha256       {}",
        place.crt.display(),
        own.name,
        own.expires,
        own.fingerprint
    ));
    Ok(())
}
