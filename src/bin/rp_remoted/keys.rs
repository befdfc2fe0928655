//! `rp_remoted keys`.

use restpipe::remoted::keys;
use restpipe::run::cli::{self, CliFailure, Command, Program};

use crate::Job;

pub const COMMAND: Command<Job> = Command {
    page: Program {
        name: "rp_remoted keys",
        about: "Makes a broker's file of keys: a new one for servers and a new one for callers.",
        usage: "FILE",
        arguments: &[("FILE", "the file to make (mode 0600); one that exists is left alone")],
        examples: "{name} remoted.json",
        reads: None,
    },
    parse: |arguments| {
        let file = cli::path(arguments, "FILE")?;
        Ok(Box::new(move || {
            keys::create(&file).map_err(CliFailure::failed)?;
            cli::say(&format!("keys  {}", file.display()));
            Ok(())
        }))
    },
};
