//! The settings of the commands of `rp_remoted`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::environment::{Environment, Settings};
use super::error::{ConfigError, SettingOrigin, Warning};
use super::roles::{DRAIN_MAX_S, WAIT_MAX_S};
use super::value;
use super::variables as var;
use super::{Bind, LogFormat};

/// The settings of a broker.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The listen address, if set. Otherwise its file of keys may set it.
    pub bind: Option<Bind>,
    /// The listen address if neither sets it.
    pub default_bind: Bind,
    /// The file of keys.
    pub keys: PathBuf,
    /// With these it uses TLS.
    pub tls: Option<TlsFiles>,
    /// How long a joined pair may be idle.
    pub idle: IdleLimit,
    /// Whether a web server in front sends the peer's address in `X-Real-IP` and `X-Real-Port`.
    pub is_behind_proxy: bool,
    /// Whether peers may be programs of the original, which end TLS without a close_notify.
    pub original_peers: bool,
    /// How long the stopping broker waits for joined connections.
    pub drain: Duration,
    /// Whether the log has debug lines.
    pub debug: bool,
    /// The format of log lines.
    pub log_format: LogFormat,
}

/// How long a joined pair may be idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleLimit {
    /// The smaller `WebRoute-Timeout` of the two.
    AsAsked,
    /// This, whatever they request.
    Always(Duration),
    /// Unlimited.
    Off,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, PEM, followed by intermediate ones.
    pub crt: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

impl BrokerConfig {
    /// The settings of a broker, checked. The warnings are for the log.
    pub fn from_environment(env: &Environment) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (settings, mut warnings) = env.settings_of_process()?;
        let bind = settings.read(&var::REMOTED_BIND, str::parse::<Bind>)?;
        let is_bound = settings.find(&var::REMOTED_BIND)?.is_some();
        settings.log_filter()?;
        let config = Self {
            bind: is_bound.then(|| bind.clone()),
            default_bind: bind,
            keys: settings.read(&var::REMOTED_CONFIG, value::path)?,
            tls: tls(&settings)?,
            idle: match settings.find(&var::REMOTED_IDLE)? {
                None => IdleLimit::AsAsked,
                Some(_) => settings.read(&var::REMOTED_IDLE, idle)?,
            },
            is_behind_proxy: settings.read(&var::REMOTED_PROXY, value::switch)?,
            original_peers: settings.read(&var::REMOTED_ORIGINALS, value::switch)?,
            drain: settings.read(&var::DRAIN, |text| value::seconds(text, 0.0, DRAIN_MAX_S))?,
            debug: settings.debug(&mut warnings)?,
            log_format: settings.read(&var::LOG_FORMAT, value::log_format)?,
        };
        Ok((config, warnings))
    }
}

/// The environment settings of `rp_remoted publish` and `rp_remoted connect`.
#[derive(Clone)]
pub struct EndConfig {
    /// The key for addresses without one. A secret.
    pub key: Option<String>,
    /// The value of `HTTPS_PROXY`, or empty. It may contain a password.
    pub https_proxy: String,
    /// The value of `HTTP_PROXY`, or empty. It may contain a password.
    pub http_proxy: String,
    /// The value of `NO_PROXY`, or empty.
    pub no_proxy: String,
    /// Whether peers may be programs of the original, which end TLS without a close_notify.
    pub original_peers: bool,
    /// How long the stopping program waits for connections.
    pub drain: Duration,
    /// Whether the log has debug lines.
    pub debug: bool,
    /// The format of log lines.
    pub log_format: LogFormat,
}

impl EndConfig {
    /// The settings, checked except for keys and proxies. The warnings are for the log.
    pub fn from_environment(env: &Environment) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (settings, mut warnings) = env.settings_of_process()?;
        settings.log_filter()?;
        let config = Self {
            key: secret(&settings, &var::REMOTED_APIKEY)?,
            https_proxy: secret(&settings, &var::HTTPS_PROXY)?.unwrap_or_default(),
            http_proxy: secret(&settings, &var::HTTP_PROXY)?.unwrap_or_default(),
            no_proxy: secret(&settings, &var::NO_PROXY)?.unwrap_or_default(),
            original_peers: settings.read(&var::REMOTED_ORIGINALS, value::switch)?,
            drain: settings.read(&var::DRAIN, |text| value::seconds(text, 0.0, DRAIN_MAX_S))?,
            debug: settings.debug(&mut warnings)?,
            log_format: settings.read(&var::LOG_FORMAT, value::log_format)?,
        };
        Ok((config, warnings))
    }
}

/// Without secrets.
impl fmt::Debug for EndConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { no_proxy, drain, debug, .. } = self;
        f.debug_struct("EndConfig")
            .field("no_proxy", no_proxy)
            .field("drain", drain)
            .field("debug", debug)
            .finish_non_exhaustive()
    }
}

/// A secret value: if two spellings differ, the error names only the variables.
fn secret(settings: &Settings, variable: &var::Variable) -> Result<Option<String>, ConfigError> {
    const HIDDEN: &str = "(not shown)";
    match settings.find(variable) {
        Ok(given) => Ok(given.map(|given| given.text)),
        Err(ConfigError::Conflict { names, origin, .. }) => {
            let values = [HIDDEN.to_owned(), HIDDEN.to_owned()];
            Err(ConfigError::Conflict { names, values, origin })
        }
        Err(error) => Err(error),
    }
}

fn idle(text: &str) -> Result<IdleLimit, value::Expected> {
    let limit = value::seconds(text, 0.0, WAIT_MAX_S)?;
    Ok(if limit.is_zero() { IdleLimit::Off } else { IdleLimit::Always(limit) })
}

/// Both files or none.
fn tls(settings: &Settings) -> Result<Option<TlsFiles>, ConfigError> {
    let file = |variable| match settings.find(variable)? {
        Some(_) => settings.read(variable, value::path).map(Some),
        None => Ok(None),
    };
    let lacks = |name: &var::Variable, other: &var::Variable| ConfigError::Value {
        name: name.names[0].to_owned(),
        origin: SettingOrigin::Process,
        given: String::new(),
        accepted: format!("a file, because {} is set", other.names[0]),
    };
    match (file(&var::REMOTED_CRT)?, file(&var::REMOTED_KEY)?) {
        (Some(crt), Some(key)) => Ok(Some(TlsFiles { crt, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(lacks(&var::REMOTED_KEY, &var::REMOTED_CRT)),
        (None, Some(_)) => Err(lacks(&var::REMOTED_CRT, &var::REMOTED_KEY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<BrokerConfig, String> {
        let env = Environment::from_pairs(pairs.iter().copied());
        BrokerConfig::from_environment(&env).map(|(config, _)| config).map_err(|e| e.to_string())
    }

    #[test]
    fn without_anything_it_is_the_originals() {
        let config = config(&[]).unwrap();
        assert_eq!(config.default_bind.to_string(), "127.0.0.1:37791");
        assert_eq!((config.bind, config.tls, config.idle), (None, None, IdleLimit::AsAsked));
    }

    #[test]
    fn idle_limits_are_off_at_zero() {
        let idle = |text| config(&[("RP_REMOTED_IDLE_S", text)]).unwrap().idle;
        assert_eq!(idle("0"), IdleLimit::Off);
        assert_eq!(idle("1.5"), IdleLimit::Always(Duration::from_millis(1500)));
        assert!(config(&[("RP_REMOTED_IDLE_S", "never")]).is_err());
    }

    #[test]
    fn secrets_of_an_end_are_not_shown() {
        let end = |pairs: &[(&str, &str)]| {
            let env = Environment::from_pairs(pairs.iter().copied());
            assert!(!format!("{env:?}").contains("SECRET"), "{env:?}");
            EndConfig::from_environment(&env).map(|(config, _)| config)
        };
        let config = end(&[
            ("RP_REMOTED_APIKEY", "SECRET1"),
            ("https_proxy", "http://u:SECRET2@p"),
            ("NO_PROXY", "a,b"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.key.as_deref(), Some("SECRET1"));
        assert_eq!(config.https_proxy, "http://u:SECRET2@p");
        assert_eq!((config.http_proxy.as_str(), config.no_proxy.as_str()), ("", "a,b"));
        assert!(!format!("{config:?}").contains("SECRET"), "{config:?}");
        let two = [("HTTPS_PROXY", "http://other"), ("https_proxy", "http://first")];
        assert_eq!(end(&two).unwrap().https_proxy, "http://first", "as with curl");
    }

    #[test]
    fn tls_needs_both_files() {
        let both = [("RP_REMOTED_CRT", "a"), ("RP_REMOTED_KEY", "b")];
        let files = TlsFiles { crt: "a".into(), key: "b".into() };
        assert_eq!(config(&both).unwrap().tls, Some(files));
        let error = config(&both[..1]).unwrap_err();
        assert_eq!(
            error,
            "RP_REMOTED_KEY is \"\"; accepted is a file, because RP_REMOTED_CRT is set"
        );
    }
}
