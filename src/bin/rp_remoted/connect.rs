//! `rp_remoted connect`.

use crossbeam_channel::{bounded, select};
use pico_args::Arguments;
use restpipe::config::{Bind, Reader};
use restpipe::remoted::forward::{self, BrokerChain, BrokerForward};
use restpipe::remoted::{DEFAULT_IDLE_S, Url};
use restpipe::run::cli::{self, CliFailure, Command, Program};
use restpipe::run::signals::Signals;

use crate::Job;
use crate::ends::{CA, Ends, KEY_FILE, MAX_CONNECTIONS, PIN, words};

pub const COMMAND: Command<Job> = Command {
    page: Program {
        name: "rp_remoted connect",
        about: "Reaches a server by its path on a broker: a local port whose connections all lead \
                there,\nor one connection on standard input and output. Prints `ready listen=ADDR` \
                when the port\nis open.",
        usage: "URL... --listen ADDR [OPTION]...\nURL... --stdio [OPTION]...",
        arguments: &[
            ("URL", "rwr://[KEY@]HOST[:PORT]/PATH, or rwrs:// for TLS; of several, each next"),
            ("", "broker is reached through the link before it; other users of the machine"),
            ("", "see a key that stands here: there are --key-file and RP_REMOTED_APIKEY"),
            ("--listen ADDR", "the local port: IP:PORT or unix:PATH (mode 0660)"),
            ("--stdio", "one connection on standard input and output"),
            (
                "--idle SECONDS",
                "how long a connection may be idle before it is reset, here and, at most, at",
            ),
            ("", "the broker (default: 86400)"),
            KEY_FILE,
            CA,
            PIN,
            MAX_CONNECTIONS,
        ],
        examples: "{name} rwrs://broker.example.com/db --listen 127.0.0.1:5432 --key-file caller.key\n\
                   ssh -o ProxyCommand='{name} --stdio rwrs://broker.example.com/ssh' me@home",
        reads: Some(Reader::RemotedEnd),
    },
    parse,
};

/// Where local connections come from.
enum Local {
    Port(Bind),
    Stdio,
}

fn parse(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let ends = Ends::parse(arguments)?;
    let idle_s = cli::option(arguments, "--idle", |text| match text.parse() {
        Ok(seconds @ 1..=316_224_000) => Ok(seconds),
        _ => Err("a whole number of seconds, at least 1, is needed"),
    })?;
    let idle_s = idle_s.unwrap_or(DEFAULT_IDLE_S);
    let port = cli::option(arguments, "--listen", str::parse::<Bind>)?;
    let local = match (port, arguments.contains("--stdio")) {
        (Some(port), false) => Local::Port(port),
        (None, true) => Local::Stdio,
        _ => return Err(CliFailure::Usage("one of --listen and --stdio is needed".to_owned())),
    };
    let mut urls: Vec<Url> = Vec::new();
    // The original accepts several in one argument.
    for url in words(arguments)?.iter().flat_map(|word| word.split_whitespace()) {
        let wrong = |error| CliFailure::Usage(format!("URL {}: {error}", urls.len() + 1));
        urls.push(url.parse().map_err(wrong)?);
    }
    if urls.is_empty() {
        return Err(CliFailure::Usage("URL is missing".to_owned()));
    }
    Ok(Box::new(move || run(ends, urls, &local, idle_s)))
}

fn run(ends: Ends, urls: Vec<Url>, local: &Local, idle_s: u64) -> Result<(), CliFailure> {
    let max_connections = ends.max_connections;
    let begun = ends.begin()?;
    let urls = urls.into_iter().map(|url| begun.with_key(url)).collect::<Result<_, _>>()?;
    let way = BrokerChain::new(urls, begun.outbound, idle_s).map_err(CliFailure::Wrong)?;
    let signals = Signals::new().map_err(CliFailure::failed)?;
    match local {
        Local::Stdio => stdio(way, &signals),
        Local::Port(bind) => {
            let forward =
                BrokerForward::start(bind, way, max_connections).map_err(CliFailure::failed)?;
            cli::announce(&format!("ready listen={}", forward.address()));
            let signal = signals.receiver().recv().map_err(CliFailure::failed)?;
            log::info!("stopping after {signal}: at most {} s", begun.config.drain.as_secs());
            forward.stop(begun.config.drain);
            Ok(())
        }
    }
}

/// Relays until the connection ends; a signal breaks it off.
fn stdio(way: BrokerChain, signals: &Signals) -> Result<(), CliFailure> {
    let (ended, end) = bounded(1);
    std::thread::Builder::new()
        .name("carry".to_owned())
        .spawn(move || {
            // After a signal nothing receives this.
            let _ = ended.send(forward::stdio(way));
        })
        .map_err(CliFailure::failed)?;
    select! {
        recv(end) -> end => match end {
            Ok(end) => end.map_err(CliFailure::Failed),
            Err(_) => Err(CliFailure::Failed("carrying the bytes panicked".to_owned())),
        },
        recv(signals.receiver()) -> _ => Ok(()),
    }
}
