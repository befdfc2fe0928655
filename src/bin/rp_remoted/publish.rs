//! `rp_remoted publish`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pico_args::Arguments;
use restpipe::config::Reader;
use restpipe::remoted::publication::{Options, Publication, PublishedPath};
use restpipe::remoted::{Address, Url};
use restpipe::run::cli::{self, CliFailure, Command, Program};
use restpipe::run::signals::Signals;

use crate::Job;
use crate::ends::{CA, Ends, KEY_FILE, MAX_CONNECTIONS, PIN, words};

/// The largest file of paths, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of paths at once.
const MAX_ROUTES: usize = 256;

pub const COMMAND: Command<Job> = Command {
    page: Program {
        name: "rp_remoted publish",
        about: "Makes a TCP server that runs here reachable by a path on a broker, without opening a \
                port.\nIt registers again for ever. Prints `ready published=PATH` for each path when \
                that is\nfirst registered; SIGTERM takes the paths back and lets connections end.",
        usage: "URL --to TARGET [URL --to TARGET]... [OPTION]...\n--from FILE [OPTION]...",
        arguments: &[
            ("URL", "rws://[KEY@]HOST[:PORT]/PATH, or rwss:// for TLS; other users of the machine"),
            ("", "see a key that stands here: there are --key-file and RP_REMOTED_APIKEY"),
            ("--to TARGET", "the server: HOST:PORT or unix:PATH; one for each URL, or one for all"),
            ("--from FILE", "further lines `URL TARGET`; # begins a comment"),
            ("--proxy-protocol", "tell the server its caller's address: a line of HAProxy's PROXY"),
            ("", "protocol, version 1, comes first on each connection"),
            KEY_FILE,
            CA,
            PIN,
            MAX_CONNECTIONS,
        ],
        examples: "{name} rwss://broker.example.com/ssh --to 127.0.0.1:22 --key-file server.key\n\
                   {name} --from paths --ca broker-ca.pem --proxy-protocol",
        reads: Some(Reader::RemotedEnd),
    },
    parse,
};

fn parse(arguments: &mut Arguments) -> Result<Job, CliFailure> {
    let ends = Ends::parse(arguments)?;
    let proxy_protocol = arguments.contains("--proxy-protocol");
    let mut targets = Vec::new();
    while let Some(target) = cli::option(arguments, "--to", str::parse::<Address>)? {
        targets.push(target);
    }
    let mut files = Vec::new();
    while let Some(file) = cli::option_path(arguments, "--from")? {
        files.push(file);
    }
    let mut routes = Vec::new();
    let urls = words(arguments)?;
    if targets.len() != urls.len() && targets.len() != 1 || targets.len() > urls.len() {
        return Err(CliFailure::Usage(
            "each URL needs a --to TARGET, and each target a URL".to_owned(),
        ));
    }
    for (at, url) in urls.iter().enumerate() {
        let wrong = |error| CliFailure::Usage(format!("URL {}: {error}", at + 1));
        let url: Url = url.parse().map_err(wrong)?;
        let target = targets.get(at).or(targets.first()).cloned();
        routes.extend(target.map(|target| PublishedPath { url, target }));
    }
    if routes.is_empty() && files.is_empty() {
        return Err(CliFailure::Usage("URL is missing".to_owned()));
    }
    let options = Options { proxy_protocol, max_connections: ends.max_connections };
    Ok(Box::new(move || run(ends, routes, &files, options)))
}

fn run(
    ends: Ends,
    mut routes: Vec<PublishedPath>,
    files: &[PathBuf],
    options: Options,
) -> Result<(), CliFailure> {
    for file in files {
        routes.extend(read(file).map_err(CliFailure::Wrong)?);
    }
    if routes.is_empty() || routes.len() > MAX_ROUTES {
        return Err(CliFailure::Wrong(format!("there may be 1 to {MAX_ROUTES} paths")));
    }
    let begun = ends.begin()?;
    for route in &mut routes {
        route.url = begun.with_key(route.url.clone())?;
    }
    let paths: Vec<String> = routes.iter().map(|route| route.url.path().to_owned()).collect();
    let signals = Signals::new().map_err(CliFailure::failed)?;
    let published = move |at: usize| cli::announce(&format!("ready published={}", paths[at]));
    let outbound = Arc::new(begun.outbound);
    let publication = Publication::start(routes, &outbound, options, published)
        .map_err(|error| CliFailure::Wrong(error.to_string()))?;
    let signal = signals.receiver().recv().map_err(CliFailure::failed)?;
    log::info!("stopping after {signal}: at most {} s", begun.config.drain.as_secs());
    publication.stop(begun.config.drain);
    Ok(())
}

/// Reads the lines of a file. Errors never show a line: it may contain a key.
fn read(file: &Path) -> Result<Vec<PublishedPath>, String> {
    let name = file.display();
    let text = cli::read_text(file, MAX_FILE).map_err(|error| format!("{name}: {error}"))?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            line.parse().map_err(|error| format!("{name}: line {number}: {error}"))
        })
        .collect()
}
