//! The lines of a check, and its verdict.

use std::fmt::Display;

use crate::run::cli::{self, CliFailure};
use crate::run::logging::one_line;

/// Why a step failed.
pub(super) struct CheckProblem {
    what: String,
    advice: String,
}

impl CheckProblem {
    /// What happened, and advice for the operator.
    pub fn new(what: impl Display, advice: impl Into<String>) -> Self {
        Self { what: what.to_string(), advice: advice.into() }
    }
}

/// Prints each step when it is complete.
#[derive(Default)]
pub(super) struct Report {
    has_failed: bool,
}

impl Report {
    /// Prints the result of a step, and advice for the first that fails. Returns whether it passed.
    pub fn note(&mut self, step: &str, result: Result<String, CheckProblem>) -> bool {
        match result {
            Ok(detail) => {
                line("ok", step, &detail);
                true
            }
            Err(CheckProblem { what, advice }) => {
                line("FAILED", step, &what);
                if !std::mem::replace(&mut self.has_failed, true) {
                    cli::say(&format!("        what to do: {}", one_line(advice)));
                }
                false
            }
        }
    }

    /// Prints that a step is skipped because of an earlier failure.
    pub fn skip(&mut self, step: &str) {
        line("-", step, "not tried");
    }

    /// Prints a warning, which is not a failure.
    pub fn remark(&mut self, step: &str, warning: impl Display) {
        line("note", step, &warning.to_string());
    }

    /// The verdict, as an exit code.
    pub fn end(self) -> Result<(), CliFailure> {
        if self.has_failed { Err(CliFailure::No) } else { Ok(()) }
    }
}

fn line(word: &str, step: &str, detail: &str) {
    cli::say(&format!("{word:<7} {step}: {}", one_line(detail)));
}
