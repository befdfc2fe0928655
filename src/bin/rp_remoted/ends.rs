//! Shared by `publish` and `connect`: keys, trust, proxies, startup and shutdown.

use std::path::PathBuf;

use pico_args::Arguments;
use restpipe::config::{EndConfig, Environment, Warning};
use restpipe::remoted::{Key, Outbound, Pin, Proxies, Trust, Url};
use restpipe::run::cli::{self, CliFailure};
use restpipe::run::logging;

pub const KEY_FILE: (&str, &str) =
    ("--key-file F", "a file of one line, the key of addresses that have none");
pub const CA: (&str, &str) =
    ("--ca F", "trust brokers with a certificate of this CA (PEM), not those of the system's");
pub const PIN: (&str, &str) =
    ("--pin SHA256", "trust the one certificate with this fingerprint; several may be given");
pub const MAX_CONNECTIONS: (&str, &str) =
    ("--max-connections N", "connections at once, 1 to 100000 (default: 4096)");

/// How to reach brokers, from the command line.
pub struct Ends {
    key_file: Option<PathBuf>,
    trust: Trust,
    /// Maximum number of connections at once.
    pub max_connections: usize,
}

impl Ends {
    /// Parses the common options.
    pub fn parse(arguments: &mut Arguments) -> Result<Self, CliFailure> {
        let key_file = cli::option_path(arguments, "--key-file")?;
        let ca = cli::option_path(arguments, "--ca")?;
        let mut pins = Vec::new();
        while let Some(pin) = cli::option(arguments, "--pin", str::parse::<Pin>)? {
            pins.push(pin);
        }
        let trust = match (ca, pins.is_empty()) {
            (None, true) => Trust::System,
            (Some(file), true) => Trust::File(file),
            (None, false) => Trust::Pins(pins),
            (Some(_), false) => {
                return Err(CliFailure::Usage("only one of --ca and --pin goes".to_owned()));
            }
        };
        let max_connections =
            cli::option(arguments, "--max-connections", |text| match text.parse() {
                Ok(count @ 1..=100_000) => Ok(count),
                _ => Err("a number from 1 to 100000 is needed"),
            })?;
        let max_connections =
            max_connections.unwrap_or(restpipe::remoted::publication::DEFAULT_MAX_CONNECTIONS);
        Ok(Self { key_file, trust, max_connections })
    }

    /// Starts the log and reads the key for addresses without one.
    pub fn begin(self) -> Result<Begun, CliFailure> {
        let env = Environment::from_process();
        let (config, warnings) = EndConfig::from_environment(&env)?;
        let proxies = Proxies::new(&config.https_proxy, &config.http_proxy, &config.no_proxy);
        let outbound = Outbound::new(self.trust, proxies.map_err(CliFailure::Wrong)?)
            .with_original_peers(config.original_peers);
        let key = match (&self.key_file, &config.key) {
            (Some(file), _) => Some(Key::from_file(file).map_err(CliFailure::Wrong)?),
            (None, Some(text)) => {
                let wrong = |error| CliFailure::Wrong(format!("RP_REMOTED_APIKEY: {error}"));
                Some((text.parse().map_err(wrong)?, false))
            }
            (None, None) => None,
        };
        logging::init(&env, config.debug, config.log_format);
        warnings.iter().for_each(|warning: &Warning| log::warn!("{warning}"));
        if let (Some(file), Some((_, true))) = (&self.key_file, &key) {
            let file = file.display();
            log::warn!("{file}: other users can read this key; chmod 600 it");
        }
        Ok(Begun { config, outbound, key: key.map(|(key, _)| key) })
    }
}

/// The state of a command after startup.
pub struct Begun {
    pub config: EndConfig,
    pub outbound: Outbound,
    key: Option<Key>,
}

impl Begun {
    /// Adds the key to an address that has none.
    pub fn with_key(&self, url: Url) -> Result<Url, CliFailure> {
        let url = url.or_key(self.key.as_ref());
        if !url.has_key() {
            return Err(CliFailure::Wrong(format!(
                "{url}: there is no key for it; it stands before an @, in the file of --key-file, or \
                 in RP_REMOTED_APIKEY"
            )));
        }
        Ok(url)
    }
}

/// All remaining arguments, which must not be options. Errors never repeat an argument: it may
/// contain a key.
pub fn words(arguments: &mut Arguments) -> Result<Vec<String>, CliFailure> {
    let mut words = Vec::new();
    while let Some(word) = cli::optional_positional(arguments)? {
        let word = word.into_string();
        words
            .push(word.map_err(|_| CliFailure::Usage("an argument is not UTF-8 text".to_owned()))?);
    }
    Ok(words)
}
