//! Makes a CA and identities that RestPipe's programs accept.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use pico_args::Arguments;
use restpipe::handler::Role;
use restpipe::identity::ca::{self, Made, Name, Order};
use rustls::pki_types::UnixTime;

const HELP: &str = "\
rp_ca - makes a CA and identities that rp_server_set_identity and
rp_client_set_identity accept

usage: rp_ca init [--days N] [--dir DIR]
       rp_ca issue NAME --server|--client [--san DNS-or-IP]... [--days N] [--dir DIR]

init        makes a CA: ca.key.pem and ca.crt.pem
issue NAME  makes NAME.key.pem and NAME.crt.pem, signed by that CA. NAME is the host
            name or IP address under which clients dial a server, or the name under
            which the server knows a client

  --server, --client  what the identity is for
  --san DNS-or-IP     a further name or address; may be given several times
  --days N            for how long, 1 to 36500 (default: a CA 3650, an identity 365;
                      an identity never outlives its CA)
  --dir DIR           where the files are (default: the current directory)
  --help, --version

Keys are ECDSA P-256 and have mode 0600. Nothing is ever overwritten. Keep ca.key.pem
to yourself: who has it can be any server and any client. It reads no environment
variable.

example:
  rp_ca init --dir ca
  rp_ca issue pipe.example.com --server --san localhost --dir ca
  rp_ca issue fileserver --client --dir ca

exit: 0 done, 1 failed, 2 wrong usage
";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_env();
    if arguments.contains(["-h", "--help"]) {
        return say(HELP);
    }
    if arguments.contains(["-V", "--version"]) {
        return say(concat!("rp_ca ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    let command = match Command::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("rp_ca: {} (see rp_ca --help)", error.replace(char::is_control, "?"));
            return ExitCode::from(2);
        }
    };
    let made = match &command {
        Command::Init { dir, days } => ca::init(dir, *days, UnixTime::now()),
        Command::Issue { dir, order } => ca::issue(dir, order, UnixTime::now()),
    };
    match made {
        Ok(made) => say(&describe(&made)),
        Err(error) => {
            eprintln!("rp_ca: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Command {
    Init { dir: PathBuf, days: u32 },
    Issue { dir: PathBuf, order: Order },
}

impl Command {
    fn parse(mut arguments: Arguments) -> Result<Self, String> {
        let dir = arguments.opt_value_from_os_str("--dir", |dir| {
            Ok::<_, std::convert::Infallible>(PathBuf::from(dir))
        });
        let dir = dir.map_err(text)?.unwrap_or_else(|| PathBuf::from("."));
        let days = arguments.opt_value_from_fn("--days", days).map_err(text)?;
        let name = arguments.subcommand().map_err(text)?;
        let command = match name.as_deref() {
            Some("init") => Self::Init { dir, days: days.unwrap_or(ca::DEFAULT_CA_DAYS) },
            Some("issue") => {
                let role = match (arguments.contains("--server"), arguments.contains("--client")) {
                    (true, false) => Role::Server,
                    (false, true) => Role::Client,
                    _ => return Err("issue needs one of --server and --client".to_owned()),
                };
                let alternatives = arguments.values_from_str::<_, Name>("--san").map_err(text)?;
                let name = arguments.opt_free_from_str().map_err(text)?;
                let name = name.ok_or("issue needs a NAME")?;
                let days = days.unwrap_or(ca::DEFAULT_DAYS);
                Self::Issue { dir, order: Order { name, role, alternatives, days } }
            }
            Some(other) => return Err(format!("no such command: {other}")),
            None => return Err("a command is needed: init or issue".to_owned()),
        };
        match arguments.finish().first() {
            Some(extra) => Err(format!("not understood: {}", extra.to_string_lossy())),
            None => Ok(command),
        }
    }
}

fn days(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(days) if (1..=ca::MAX_DAYS).contains(&days) => Ok(days),
        _ => Err(format!("--days takes a number from 1 to {}", ca::MAX_DAYS)),
    }
}

fn text(error: pico_args::Error) -> String {
    error.to_string()
}

fn describe(made: &Made) -> String {
    format!(
        "private key  {}\ncertificate  {}\nname         {}\nexpires      {}{}\nsha256       {}\n",
        made.key.display(),
        made.crt.display(),
        made.certificate.name,
        made.certificate.expires,
        if made.cut_short { ", with its CA" } else { "" },
        made.certificate.fingerprint,
    )
}

/// Prints to standard output; a reader that went away is not this program's failure.
fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
