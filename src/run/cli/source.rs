//! Where a program's settings come from: its environment and a file, or a unit of systemd.

use std::path::PathBuf;

use pico_args::Arguments;

use super::failure::CliFailure;
use crate::config::{Environment, Reader};
use crate::process::open_files;
use crate::run::unit;

/// The option that names a file, for `--help`.
pub(in crate::run) const CONFIG: (&str, &str) =
    ("--config FILE", "take further settings from the NAME=value lines of FILE");
/// The option that names a unit, for `--help`.
pub(in crate::run) const UNIT: &[(&str, &str)] = &[
    (
        "--unit NAME",
        "with --check, --check-rule and --print-settings: take the settings that systemd",
    ),
    ("", "gives the service NAME, such as restpipe-client, and no others"),
];

/// Where settings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::run) enum SettingsSource {
    /// The environment of this process, and this file, if any.
    Process(Option<PathBuf>),
    /// What systemd gives the service of this name.
    Unit(String),
}

impl SettingsSource {
    /// The options of a program that reads these variables.
    pub(in crate::run) fn parse(
        arguments: &mut Arguments,
        reader: Reader,
    ) -> Result<Self, CliFailure> {
        let config = match reader.takes_config() {
            true => {
                arguments.opt_value_from_os_str("--config", |file| Ok::<_, String>(file.into()))?
            }
            false => None,
        };
        let unit = match takes_unit(reader) {
            true => arguments.opt_value_from_str("--unit")?,
            false => None,
        };
        match (config, unit) {
            (Some(_), Some(_)) => {
                Err(CliFailure::Usage("only one of --config and --unit goes".to_owned()))
            }
            (config, None) => Ok(Self::Process(config)),
            (None, Some(name)) => Ok(Self::Unit(name)),
        }
    }

    /// The environment to take the settings from.
    pub(in crate::run) fn environment(&self) -> Result<Environment, CliFailure> {
        match self {
            Self::Process(config) => Ok(Environment::from_process().with_config(config.clone())),
            Self::Unit(name) => unit::environment(name).map_err(CliFailure::Wrong),
        }
    }
}

impl SettingsSource {
    /// The user that a unit runs as, if that is not root.
    pub(in crate::run) fn user_of_unit(&self) -> Option<String> {
        match self {
            Self::Unit(name) => unit::user(name),
            Self::Process(_) => None,
        }
    }

    /// How many files a program with these settings may have open; `None` if any number.
    pub(in crate::run) fn open_files(&self) -> Option<u64> {
        let of_unit = match self {
            Self::Process(_) => None,
            Self::Unit(name) => unit::open_files(name),
        };
        of_unit.or_else(open_files::limit)
    }
}

/// Whether a program runs as a unit whose settings can be asked for.
pub(in crate::run) fn takes_unit(reader: Reader) -> bool {
    matches!(reader, Reader::ServerStart | Reader::ClientStart)
}
