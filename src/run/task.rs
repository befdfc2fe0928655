//! The arguments of a node's program.

use pico_args::Arguments;

use super::check_rule::Asked;
use crate::config::Reader;
use crate::run::cli::CliFailure;
use crate::run::cli::source::{self, SettingsSource};

/// The usage lines.
pub(super) const USAGE: &str = "\n\
     --config FILE\n\
     --check [--config FILE | --unit NAME]\n\
     --check-rule PEER VERB NOUN [--config FILE | --unit NAME]";

/// What they mean.
pub(super) const ARGUMENTS: &[(&str, &str)] = &[
    ("--check", "say step by step whether this node would start and connect, and what to do if"),
    ("", "not; change nothing. Exit code: 0 it would, 1 it would not"),
    ("--check-rule", "say whether RP_RULES_FILE lets PEER ask this, and by which line; start"),
    ("", "nothing. PEER is a certificate's name, NOUN as in a URL. Exit code: 0 allowed,"),
    ("", "1 refused, 2 the rules cannot be used"),
    source::CONFIG,
    source::UNIT[0],
    source::UNIT[1],
];

/// What the arguments ask for.
pub(super) enum Task {
    Run,
    Check,
    CheckRule(Asked),
}

impl Task {
    /// The task, and where its settings come from.
    pub fn parse(
        arguments: &mut Arguments,
        reader: Reader,
    ) -> Result<(Self, SettingsSource), CliFailure> {
        let source = SettingsSource::parse(arguments, reader)?;
        let task = match arguments.contains("--check") {
            true => Self::Check,
            false => Asked::parse(arguments)?.map_or(Self::Run, Self::CheckRule),
        };
        match (&task, &source) {
            (Self::Run, SettingsSource::Unit(_)) => {
                let words = "--unit goes with --check, --check-rule and --print-settings; systemctl \
                             starts a unit";
                Err(CliFailure::Usage(words.to_owned()))
            }
            _ => Ok((task, source)),
        }
    }
}
