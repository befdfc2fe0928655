//! A program, as its `--help` describes it.

use crate::config::Reader;

/// A program, or one command of a program, as its `--help` describes it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name; for a command two words, such as `rp_ca init`.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Its arguments in the usual notation, such as `KEY CRT [CA]`, one usage per line.
    pub usage: &'static str,
    /// Its arguments and their descriptions, without `--help` and `--version`. A row without an
    /// argument continues the description above it.
    pub arguments: &'static [(&'static str, &'static str)],
    /// Complete command lines to copy, one per line; `{name}` stands for the name.
    pub examples: &'static str,
    /// Whose variables it reads, if any.
    pub reads: Option<Reader>,
}

impl Program {
    /// The name of the executable.
    pub(super) fn file_name(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or(self.name)
    }

    /// The word that selects it, if it is a command.
    pub(super) fn word(&self) -> &'static str {
        self.name.split_once(' ').map_or("", |(_, word)| word)
    }
}
