//! Makes a CA and identities that RestPipe's programs accept.

use std::path::PathBuf;
use std::process::ExitCode;

use pico_args::Arguments;
use restpipe::cli::{self, Command, Failure, Program};
use restpipe::identity::ca::{self, Made, Order};
use restpipe::peer::Role;
use rustls::pki_types::UnixTime;

const PROGRAM: Program = Program {
    name: "rp_ca",
    about: "Makes a CA and identities that rp_server_set_identity and rp_client_set_identity \
            accept.\nKeys are ECDSA P-256 and have mode 0600. Nothing is ever overwritten.",
    usage: "",
    arguments: &[],
    examples: "rp_ca init --dir ca\n\
               rp_ca issue pipe.example.com --server --san localhost --dir ca\n\
               rp_ca issue fileserver --client --dir ca",
    reads: None,
};

const DIR: (&str, &str) = ("--dir DIR", "where the files are (default: the current directory)");

const COMMANDS: [Command<Task>; 2] = [
    Command {
        page: Program {
            name: "rp_ca init",
            about: "Makes a CA: ca.key.pem and ca.crt.pem.\n\
                    Keep ca.key.pem to yourself: who has it can be any server and any client.",
            usage: "[--days N] [--dir DIR]",
            arguments: &[("--days N", "for how long, 1 to 36500 (default: 3650)"), DIR],
            examples: "rp_ca init --dir ca",
            reads: None,
        },
        parse: init,
    },
    Command {
        page: Program {
            name: "rp_ca issue",
            about: "Makes an identity, NAME.key.pem and NAME.crt.pem, signed by the CA.\n\
                    The CA, ca.key.pem and ca.crt.pem, is in the same directory.",
            usage: "NAME --server|--client [--san DNS-or-IP]... [--days N] [--dir DIR]",
            arguments: &[
                ("NAME", "the host name or IP address under which clients dial a server,"),
                ("", "or the name under which the server knows a client"),
                ("--server", "it is for a server"),
                ("--client", "it is for a client"),
                ("--san DNS-or-IP", "a further name or address; may be given several times"),
                (
                    "--days N",
                    "for how long, 1 to 36500, but never longer than its CA (default: 365)",
                ),
                DIR,
            ],
            examples: "rp_ca issue pipe.example.com --server --san 10.0.0.5 --dir ca\n\
                       rp_ca issue fileserver --client --days 90 --dir ca",
            reads: None,
        },
        parse: issue,
    },
];

enum Task {
    Init { dir: PathBuf, days: u32 },
    Issue { dir: PathBuf, order: Order },
}

fn main() -> ExitCode {
    cli::main_of_commands(&PROGRAM, &COMMANDS, |task| {
        let now = UnixTime::now();
        let made = match task {
            Task::Init { dir, days } => ca::init(&dir, days, now),
            Task::Issue { dir, order } => ca::issue(&dir, &order, now),
        };
        cli::say(&describe(&made.map_err(Failure::failed)?));
        Ok(())
    })
}

fn init(arguments: &mut Arguments) -> Result<Task, Failure> {
    let days = days(arguments)?.unwrap_or(ca::DEFAULT_CA_DAYS);
    Ok(Task::Init { dir: dir(arguments)?, days })
}

fn issue(arguments: &mut Arguments) -> Result<Task, Failure> {
    let dir = dir(arguments)?;
    let days = days(arguments)?.unwrap_or(ca::DEFAULT_DAYS);
    let role = match (arguments.contains("--server"), arguments.contains("--client")) {
        (true, false) => Role::Server,
        (false, true) => Role::Client,
        _ => return Err(Failure::Usage("one of --server and --client is needed".to_owned())),
    };
    let alternatives = arguments.values_from_str("--san")?;
    let name = cli::value(arguments, "NAME")?;
    Ok(Task::Issue { dir, order: Order { name, role, alternatives, days } })
}

fn dir(arguments: &mut Arguments) -> Result<PathBuf, Failure> {
    Ok(cli::option_path(arguments, "--dir")?.unwrap_or_else(|| PathBuf::from(".")))
}

fn days(arguments: &mut Arguments) -> Result<Option<u32>, Failure> {
    let days = arguments.opt_value_from_fn("--days", |text| match text.parse() {
        Ok(days) if (1..=ca::MAX_DAYS).contains(&days) => Ok(days),
        _ => Err(format!("a number from 1 to {} is needed", ca::MAX_DAYS)),
    })?;
    Ok(days)
}

fn describe(made: &Made) -> String {
    format!(
        "private key  {}\ncertificate  {}\nname         {}\nexpires      {}{}\nsha256       {}",
        made.key.display(),
        made.crt.display(),
        made.certificate.name,
        made.certificate.expires,
        if made.cut_short { ", with its CA" } else { "" },
        made.certificate.fingerprint,
    )
}
