//! `--check`: tests step by step whether a node would start here and reach its other side, with
//! advice on failure. Changes nothing, and does not disturb a running node with the same identity.
//!
//! In scope: the steps, their order and their results. Not in scope: starting a node; the steps use
//! the same functions.

mod descriptors;
mod files;
mod ports;
mod reach;
mod report;
mod steps;

use rustix::process::geteuid;
use rustls::pki_types::UnixTime;

use super::Handlers;
use crate::config::{
    ClientConfig, ConfigError, Environment, NodeConfig, ServerConfig, ServerTarget, Warning,
};
use crate::handler::Role;
use crate::identity::{Date, Identity, IdentityFault};
use crate::run::cli::CliFailure;
use crate::run::cli::source::SettingsSource;
use descriptors::Need;
use ports::Ports;
use report::{CheckProblem, Report};
use steps::{CLOCK, CONFIGURATION, FILES, IDENTITY, NAME, PORTS, TO_SERVER};

/// Checks a client's settings, the way to each of its servers, and its ports.
pub(super) fn client(
    handlers: &Handlers,
    env: &Environment,
    source: &SettingsSource,
) -> Result<(), CliFailure> {
    let mut report = begin(source);
    let open_files = source.open_files();
    let read = ClientConfig::from_environment(env);
    match usable(read, |config| &config.node, handlers, Role::Client, &mut report) {
        Some(config) => {
            let targets = config.targets();
            let all: Vec<String> = targets.iter().map(ServerTarget::address).collect();
            report.note(CONFIGURATION, Ok(format!("a client of {}", all.join(", "))));
            match identity(&config.node, Role::Client, &mut report) {
                Some(identity) => reach::servers(&targets, &identity, &mut report),
                None => TO_SERVER.iter().for_each(|step| report.skip(step)),
            }
            Ports::of(&config.node, Role::Client, None).check(&mut report);
            let need = Need::of(Some(&config.node), Role::Client, targets.len());
            need.check(open_files, &mut report);
        }
        None => {
            let steps = [FILES, IDENTITY, CLOCK].iter().chain(&TO_SERVER).chain(&[PORTS]);
            steps.for_each(|step| report.skip(step));
            Need::of(None, Role::Client, 1).check(open_files, &mut report);
        }
    }
    report.end()
}

/// Checks a server's settings and its ports.
pub(super) fn server(
    handlers: &Handlers,
    env: &Environment,
    source: &SettingsSource,
) -> Result<(), CliFailure> {
    let mut report = begin(source);
    let open_files = source.open_files();
    let read = ServerConfig::from_environment(env);
    match usable(read, |config| &config.node, handlers, Role::Server, &mut report) {
        Some(config) => {
            let pipe = config.pipe_bind;
            report.note(CONFIGURATION, Ok(format!("a server with its pipe port at {pipe}")));
            if let Some(identity) = identity(&config.node, Role::Server, &mut report) {
                let name = &identity.own().name;
                report.note(NAME, Ok(format!("clients know this server as {name}")));
            } else {
                report.skip(NAME);
            }
            Ports::of(&config.node, Role::Server, Some(pipe)).check(&mut report);
            Need::of(Some(&config.node), Role::Server, 0).check(open_files, &mut report);
        }
        None => {
            [FILES, IDENTITY, CLOCK, NAME, PORTS].iter().for_each(|s| report.skip(s));
            Need::of(None, Role::Server, 0).check(open_files, &mut report);
        }
    }
    report.end()
}

/// A report that begins with what the user who checks changes.
fn begin(source: &SettingsSource) -> Report {
    let mut report = Report::default();
    if let Some(user) = source.user_of_unit().filter(|_| geteuid().is_root()) {
        let words = format!(
            "checked as root, who may read any file; as the unit's own user: sudo -u {user} ... --check"
        );
        report.remark(CONFIGURATION, words);
    }
    report
}

/// The configuration, if a node could start with it.
fn usable<T>(
    read: Result<(T, Vec<Warning>), ConfigError>,
    node: fn(&T) -> &NodeConfig,
    handlers: &Handlers,
    role: Role,
    report: &mut Report,
) -> Option<T> {
    let chosen = read.and_then(|(config, warnings)| {
        handlers.choose(node(&config), role).map(|_| (config, warnings))
    });
    match chosen {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| report.remark(CONFIGURATION, warning));
            Some(config)
        }
        Err(error) => {
            let advice = match error {
                ConfigError::File { .. } => {
                    "correct that file, or where the variable says it is; one that this user may not \
                     read is tried as the user that the node runs as (sudo -u restpipe ... --check)"
                }
                _ => "correct that variable; --help lists all of them with what they mean",
            };
            report.note(CONFIGURATION, Err(CheckProblem::new(error, advice)));
            None
        }
    }
}

/// Files, key, certificate and clock.
fn identity(config: &NodeConfig, role: Role, report: &mut Report) -> Option<Identity> {
    if !report.note(FILES, files::check(config, role)) {
        [IDENTITY, CLOCK].iter().for_each(|step| report.skip(step));
        return None;
    }
    let now = UnixTime::now();
    let clock = Date::from(now);
    let role_name = role.as_str();
    match Identity::load_with_crl(&config.identity, &config.crl, role, now) {
        Ok(identity) if identity.is_revoked(now) => {
            let what = format!("the certificate of {} is revoked", identity.own().name);
            let advice = "issue another (rp_ca issue) and install it";
            report.note(IDENTITY, Err(CheckProblem::new(what, advice)));
            report.skip(CLOCK);
            None
        }
        Ok(identity) => {
            let own = identity.own();
            report.note(IDENTITY, Ok(format!("{} (sha256 {})", own.name, own.fingerprint)));
            let until = format!("{clock}; the certificate is valid until {}", own.expires);
            report.note(CLOCK, Ok(until));
            identity.notices(now).iter().for_each(|notice| report.remark(IDENTITY, &notice.text));
            Some(identity)
        }
        Err(error) if matches!(error.fault, IdentityFault::NotYetValid(_)) => {
            report.note(IDENTITY, Ok("they belong together".to_owned()));
            let what = format!("this machine's clock says {clock}, and {error}");
            let advice = "set the clock (timedatectl), or wait until then";
            report.note(CLOCK, Err(CheckProblem::new(what, advice)));
            None
        }
        Err(error) => {
            let advice = match error.fault {
                IdentityFault::Expired(_) => format!(
                    "if {clock} is right: get a new certificate (rp_ca renew) and install it with \
                     rp_{role_name}_set_identity; else set the clock"
                ),
                _ => format!(
                    "rp_{role_name}_set_identity KEY CRT CA installs a key, the certificate that was \
                     made for it and the CA that signed it, and checks them first"
                ),
            };
            report.note(IDENTITY, Err(CheckProblem::new(error, advice)));
            report.skip(CLOCK);
            None
        }
    }
}
