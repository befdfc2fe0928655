//! Why a program fails.

use std::fmt::Display;

use crate::config::ConfigError;

/// The failure of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliFailure {
    /// Invalid arguments: exit code 2 and a hint to `--help`.
    Usage(String),
    /// An invalid environment: exit code 2.
    Environment(ConfigError),
    /// A value in the environment that the program itself rejects: exit code 2.
    Wrong(String),
    /// A failure at run time: exit code 1.
    Failed(String),
    /// Success with a negative answer, which was printed: exit code 1 and no further line.
    No,
}

impl CliFailure {
    /// A failure at run time, for this reason.
    pub fn failed(reason: impl Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

impl From<ConfigError> for CliFailure {
    fn from(error: ConfigError) -> Self {
        Self::Environment(error)
    }
}

impl From<pico_args::Error> for CliFailure {
    fn from(error: pico_args::Error) -> Self {
        Self::Usage(error.to_string())
    }
}
