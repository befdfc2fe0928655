//! Why a program fails.

use std::fmt::Display;

use crate::config::ConfigError;

/// Why a program ends without having done its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliFailure {
    /// The arguments are wrong: exit code 2 and a hint to `--help`.
    Usage(String),
    /// The environment is wrong: exit code 2.
    Environment(ConfigError),
    /// A value in the environment is wrong, as only the program itself can tell: exit code 2.
    Wrong(String),
    /// It did not work: exit code 1.
    Failed(String),
    /// It worked, and the answer, which was printed, is no: exit code 1 and no further line.
    No,
}

impl CliFailure {
    /// It did not work, for this reason.
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
