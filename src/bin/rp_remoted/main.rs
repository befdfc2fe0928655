//! Raw TCP through a broker: its three roles as commands, one file each.

mod broker;
mod connect;
mod ends;
mod keys;
mod publish;

use std::process::ExitCode;

use restpipe::run::cli::{self, CliFailure, Command, Program};

/// The work of a command, after its arguments were parsed.
type Job = Box<dyn FnOnce() -> Result<(), CliFailure>>;

const PROGRAM: Program = Program {
    name: "rp_remoted",
    about: "Reaches TCP servers behind a firewall through a broker that they dial out to: the\n\
            Remoted API Server's protocol (WebRoute), in all its roles.",
    usage: "",
    arguments: &[],
    examples: "rp_remoted keys remoted.json\n\
               RP_REMOTED_CONFIG=remoted.json rp_remoted broker\n\
               rp_remoted publish rws://broker:37791/ssh --to 127.0.0.1:22 --key-file server.key\n\
               rp_remoted connect rwr://broker:37791/ssh --listen 127.0.0.1:2222 --key-file caller.key",
    reads: None,
};

const COMMANDS: &[Command<Job>] =
    &[broker::COMMAND, keys::COMMAND, publish::COMMAND, connect::COMMAND];

fn main() -> ExitCode {
    cli::main_of_commands(&PROGRAM, COMMANDS, |job| job())
}
