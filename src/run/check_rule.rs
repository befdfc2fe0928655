//! `--check-rule`: what the rules decide about one request, without starting a node.

use pico_args::Arguments;

use crate::config::{NodeConfig, Warning};
use crate::event::{Target, Verb};
use crate::rules::{Question, Rulebook};
use crate::run::cli::{self, CliFailure, Program};

/// A request on the command line.
pub(super) struct Asked {
    peer: String,
    verb: Verb,
    target: Target,
}

impl Asked {
    /// The request, if there is one.
    pub fn parse(arguments: &mut Arguments) -> Result<Option<Self>, CliFailure> {
        if !arguments.contains("--check-rule") {
            return Ok(None);
        }
        let peer = cli::value(arguments, "PEER")?;
        let verb: String = cli::value(arguments, "VERB")?;
        let noun: String = cli::value(arguments, "NOUN")?;
        // As for a real request: HEAD as GET, and the path split.
        let asked_as = if verb.eq_ignore_ascii_case("head") { "get" } else { &verb };
        let verb = Verb::parse(asked_as).ok_or_else(|| {
            CliFailure::Usage(format!("VERB {verb:?} is no method that can be asked"))
        })?;
        let target = Target::parse(&noun)
            .map_err(|error| CliFailure::Usage(format!("NOUN {noun:?}: {error}")))?;
        Ok(Some(Self { peer, verb, target }))
    }

    /// Prints the verdict of the configured rules.
    pub fn answer(
        &self,
        program: &Program,
        config: &NodeConfig,
        warnings: &[Warning],
    ) -> Result<(), CliFailure> {
        for warning in warnings {
            cli::warn(program, warning);
        }
        let Some(path) = &config.rules else {
            cli::say("allowed: RP_RULES_FILE is not set, so every peer may ask anything");
            return Ok(());
        };
        let book = Rulebook::open(path).map_err(|error| CliFailure::Wrong(error.to_string()))?;
        let question = Question { peer: &self.peer, verb: self.verb, noun: self.target.noun() };
        match book.rules().find(&question) {
            Some(rule) => {
                cli::say(&format!(
                    "allowed by {}, line {}: {}",
                    path.display(),
                    rule.line(),
                    rule.text()
                ));
                Ok(())
            }
            None => {
                cli::say(&format!("refused: no line of {} allows it", path.display()));
                Err(CliFailure::No)
            }
        }
    }
}
