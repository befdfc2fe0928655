//! Creates a CA and identities for RestPipe's programs, renews and revokes them.

mod pages;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pico_args::Arguments;
use restpipe::ca::{self, Ca, CaError, Name, NewCa, Order, Passphrase, Reason, RevocationTarget};
use restpipe::event::peer::Role;
use restpipe::identity::open_key;
use restpipe::run::cli::{self, CliFailure, Command, Program};
use rustls::pki_types::UnixTime;

/// A command with parsed arguments: runs at the given time and returns its output.
type Job = Box<dyn FnOnce(UnixTime) -> Result<String, CaError>>;

const COMMANDS: [Command<Job>; 9] = [
    Command { page: pages::INIT, parse: init },
    Command { page: pages::ISSUE, parse: issue },
    Command { page: pages::REQUEST, parse: request },
    Command { page: pages::SIGN, parse: sign },
    Command { page: pages::VERIFY, parse: verify },
    Command { page: pages::LIST, parse: list },
    Command { page: pages::RENEW, parse: renew },
    Command { page: pages::REVOKE, parse: revoke },
    Command { page: pages::CRL, parse: crl },
];

fn main() -> ExitCode {
    cli::main_of_commands(&pages::PROGRAM, &COMMANDS, |job| {
        cli::say(&job(UnixTime::now()).map_err(CliFailure::failed)?);
        Ok(())
    })
}

fn init(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let dir = dir(arguments)?;
    let file = cli::option_path(arguments, "--passphrase-file")?;
    let days = days(arguments)?.unwrap_or(ca::DEFAULT_CA_DAYS);
    let name = cli::option(arguments, "--name", str::parse)?;
    Ok(Box::new(move |now| {
        let passphrase = file.map(|file| passphrase(&file, &pages::INIT)).transpose()?;
        let made = Ca::new(&dir).init(&NewCa { name, days, passphrase }, now)?;
        Ok(report::made(&made))
    }))
}

fn issue(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let opened = Opened::parse(arguments, &pages::ISSUE)?;
    let days = days(arguments)?.unwrap_or(ca::DEFAULT_DAYS);
    let role = needed_role(arguments)?;
    let alternatives = alternatives(arguments)?;
    let name = cli::value(arguments, "NAME")?;
    let order = Order { name, role, alternatives, days };
    Ok(Box::new(move |now| opened.with(|ca| Ok(report::made(&ca.issue(&order, now)?)))))
}

fn request(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let dir = dir(arguments)?;
    let name: Name = cli::value(arguments, "NAME")?;
    Ok(Box::new(move |_| Ok(report::requested(&ca::request(&dir, &name)?))))
}

fn sign(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let opened = Opened::parse(arguments, &pages::SIGN)?;
    let days = days(arguments)?.unwrap_or(ca::DEFAULT_DAYS);
    let role = needed_role(arguments)?;
    let name: Option<Name> = cli::option(arguments, "--name", str::parse)?;
    let alternatives = alternatives(arguments)?;
    let csr = cli::path(arguments, "CSR")?;
    Ok(Box::new(move |now| {
        let name = name.map_or_else(|| Ca::name_for(&csr, &alternatives), Ok)?;
        let order = Order { name, role, alternatives, days };
        opened.with(|ca| Ok(report::signed(&ca.sign(&csr, &order, now)?)))
    }))
}

fn verify(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let dir = dir(arguments)?;
    let role = role(arguments)?;
    let crt = cli::path(arguments, "CRT")?;
    Ok(Box::new(move |now| {
        let verdict = Ca::new(&dir).verify(&crt, role, now)?;
        if let Some(since) = verdict.list_overdue {
            let warning = format!("the revocation list was due to be signed anew on {since}");
            cli::warn(&pages::VERIFY, warning);
        }
        Ok(report::verdict(&verdict))
    }))
}

fn list(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let dir = dir(arguments)?;
    Ok(Box::new(move |_| {
        let (listed, damaged) = Ca::new(&dir).list()?;
        for error in damaged {
            cli::warn(&pages::LIST, format!("{error}; it is left out"));
        }
        Ok(report::table(&listed))
    }))
}

fn renew(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let opened = Opened::parse(arguments, &pages::RENEW)?;
    let days = days(arguments)?.unwrap_or(ca::DEFAULT_DAYS);
    let name: Name = cli::value(arguments, "NAME")?;
    Ok(Box::new(move |now| opened.with(|ca| Ok(report::signed(&ca.renew(&name, days, now)?)))))
}

fn revoke(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let opened = Opened::parse(arguments, &pages::REVOKE)?;
    let reason = cli::option(arguments, "--reason", str::parse)?.unwrap_or(Reason::UNSPECIFIED);
    let target = target(cli::path(arguments, "NAME-or-CRT")?)?;
    Ok(Box::new(move |now| {
        opened.with(|ca| Ok(report::revocation(&ca.revoke(&target, reason, now)?)))
    }))
}

fn crl(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let opened = Opened::parse(arguments, &pages::CRL)?;
    let days = days(arguments)?.unwrap_or(ca::DEFAULT_CRL_DAYS);
    Ok(Box::new(move |now| opened.with(|ca| Ok(report::revocation(&ca.sign_list(days, now)?)))))
}

/// A CA whose key is needed, and the source of its passphrase.
struct Opened {
    dir: PathBuf,
    passphrase_file: Option<PathBuf>,
    page: &'static Program,
}

impl Opened {
    fn parse(arguments: &mut Arguments, page: &'static Program) -> Result<Self, CliFailure> {
        let passphrase_file = cli::option_path(arguments, "--passphrase-file")?;
        Ok(Self { dir: dir(arguments)?, passphrase_file, page })
    }

    fn with<T>(&self, act: impl FnOnce(Ca<'_>) -> T) -> T {
        if let Some(text) = open_key(&self.dir.join("ca.key.pem")) {
            cli::warn(self.page, text);
        }
        let ask = |key: &Path| match &self.passphrase_file {
            Some(file) => passphrase(file, self.page),
            None => Passphrase::from_terminal(key),
        };
        act(Ca::new(&self.dir).with_passphrase(&ask))
    }
}

fn passphrase(file: &Path, page: &Program) -> Result<Passphrase, CaError> {
    let (passphrase, is_open) = Passphrase::from_file(file)?;
    if is_open {
        let warning = format!("{}: other users can read this file; chmod 600 it", file.display());
        cli::warn(page, warning);
    }
    Ok(passphrase)
}

fn dir(arguments: &mut Arguments) -> Result<PathBuf, CliFailure> {
    Ok(cli::option_path(arguments, "--dir")?.unwrap_or_else(|| PathBuf::from(".")))
}

fn days(arguments: &mut Arguments) -> Result<Option<u32>, CliFailure> {
    cli::option(arguments, "--days", |text| match text.parse() {
        Ok(days) if (1..=ca::MAX_DAYS).contains(&days) => Ok(days),
        _ => Err(format!("a number from 1 to {} is needed", ca::MAX_DAYS)),
    })
}

fn alternatives(arguments: &mut Arguments) -> Result<Vec<Name>, CliFailure> {
    let mut names = Vec::new();
    while let Some(name) = cli::option(arguments, "--san", str::parse)? {
        names.push(name);
    }
    Ok(names)
}

fn role(arguments: &mut Arguments) -> Result<Option<Role>, CliFailure> {
    match (arguments.contains("--server"), arguments.contains("--client")) {
        (true, false) => Ok(Some(Role::Server)),
        (false, true) => Ok(Some(Role::Client)),
        (false, false) => Ok(None),
        (true, true) => Err(CliFailure::Usage("only one of --server and --client goes".to_owned())),
    }
}

fn needed_role(arguments: &mut Arguments) -> Result<Role, CliFailure> {
    let missing = || CliFailure::Usage("one of --server and --client is needed".to_owned());
    role(arguments)?.ok_or_else(missing)
}

/// An existing file, or what cannot be a name, is a file; everything else is a name.
fn target(argument: PathBuf) -> Result<RevocationTarget, CliFailure> {
    if argument.is_file() {
        return Ok(RevocationTarget::File(argument));
    }
    let name = argument.to_str().unwrap_or_default().parse::<Name>();
    match name {
        Ok(name) => Ok(RevocationTarget::Name(name)),
        Err(_) if argument.components().count() > 1 => Ok(RevocationTarget::File(argument)),
        Err(error) => {
            let what = format!("{argument:?} is neither a file nor a name: {error}");
            Err(CliFailure::Usage(what))
        }
    }
}
