//! From settings to the configuration of a role.

use std::net::SocketAddr;
use std::time::Duration;

use super::environment::{Environment, Settings};
use super::error::{ConfigError, SettingOrigin, Warning};
use super::handler;
use super::proxy;
use super::target;
use super::tcp;
use super::value::{self, Expected};
use super::variables::{self as var, Variable};
use super::{
    ClientConfig, CrlFile, HandlerChoice, Hook, IdentityFiles, NodeConfig, ServerConfig,
    ServerTarget, Statsd,
};
use crate::event::peer::Role;

/// The shortest and the longest accepted heartbeat interval, in seconds.
const HEARTBEAT_S: (f64, f64) = (0.1, 3600.0);
/// The longest accepted silence, in seconds: the default for the longest interval.
const HEARTBEAT_TIMEOUT_MAX_S: f64 = 2.0 * HEARTBEAT_S.1;
/// The longest accepted wait of a request, in seconds: a day.
pub(super) const WAIT_MAX_S: f64 = 86_400.0;
/// The shortest accepted reply timeout, in seconds. With zero every request would fail.
const REPLY_MIN_S: f64 = 0.1;
/// The shortest accepted time for a script, in seconds.
const EXEC_MIN_S: f64 = 0.1;
/// The longest accepted drain, in seconds.
pub(super) const DRAIN_MAX_S: f64 = 3600.0;
/// The largest accepted limit for bodies: 1 GiB, as a body is held in memory.
const BODY_MAX_BYTES: u32 = 1 << 30;

impl ServerConfig {
    /// The configuration of a server, checked. The warnings are for the log.
    pub fn from_environment(env: &Environment) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (settings, mut warnings) = env.settings(&var::SERVER_FILE)?;
        let identity = server_identity(&settings)?;
        let own = Own { role: Role::Server, http: &var::SERVER_HTTP, hook: &var::SERVER_HOOK };
        let node = node(&settings, identity, &own, &mut warnings)?;
        let ip = settings.read(&var::PIPE_IP, value::ip)?;
        let port = settings.read(&var::PIPE_PORT, value::bind_port)?;
        let pipe_bind = SocketAddr::new(ip, port);
        let lookup_hosts = settings.read(&var::LOOKUP_HOSTS, value::hosts)?;
        Ok((Self { node, pipe_bind, lookup_hosts }, warnings))
    }
}

impl ClientConfig {
    /// The configuration of a client, checked. The warnings are for the log.
    pub fn from_environment(env: &Environment) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (settings, mut warnings) = env.settings(&var::CLIENT_FILE)?;
        let identity = client_identity(&settings)?;
        let own = Own { role: Role::Client, http: &var::CLIENT_HTTP, hook: &var::CLIENT_HOOK };
        let node = node(&settings, identity, &own, &mut warnings)?;
        let hosts = settings.read(&var::TARGET_HOSTNAME, target::hosts)?;
        let port = settings.read(&var::TARGET_PORT, value::target_port)?;
        let name = match settings.find(&var::SERVER_NAME)? {
            Some(_) => Some(settings.read(&var::SERVER_NAME, value::host)?),
            None => None,
        };
        let mut targets = Vec::new();
        for (host, own) in hosts {
            let port = own.unwrap_or(port);
            let proxy = proxy::read(&settings, &host, port)?;
            let server_name = name.clone().unwrap_or_else(|| host.clone());
            targets.push(ServerTarget { host, port, server_name, proxy });
        }
        let mut targets = targets.into_iter();
        // Splitting a text gives at least one part, and each is a host.
        let first = targets.next().expect("a list of hosts is never empty");
        let (heartbeat_interval, heartbeat_timeout) = heartbeat(&settings)?;
        let config = Self {
            node,
            proxy: first.proxy,
            target_host: first.host,
            target_port: first.port,
            server_name: first.server_name,
            further_targets: targets.collect(),
            target_mode: settings.read(&var::TARGETS, target::mode)?,
            heartbeat_interval,
            heartbeat_timeout,
        };
        Ok((config, warnings))
    }
}

impl IdentityFiles {
    /// The files of a server's identity. The warnings are for the operator.
    pub fn server(env: &Environment) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (settings, warnings) = env.settings(&var::SERVER_FILE)?;
        Ok((server_identity(&settings)?, warnings))
    }

    /// The files of a client's identity. The warnings are for the operator.
    pub fn client(env: &Environment) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (settings, warnings) = env.settings(&var::CLIENT_FILE)?;
        Ok((client_identity(&settings)?, warnings))
    }
}

impl Settings {
    /// The checked value of a variable that has a default.
    pub(super) fn read<T>(
        &self,
        variable: &Variable,
        read: impl FnOnce(&str) -> Result<T, Expected>,
    ) -> Result<T, ConfigError> {
        let given = self.find(variable)?;
        let text = given.as_ref().map_or(variable.default, |given| &given.text);
        read(text).map_err(|expected| ConfigError::Value {
            name: given.as_ref().map_or(variable.names[0], |given| &given.name).to_owned(),
            origin: given.as_ref().map_or(SettingOrigin::Process, |given| given.origin.clone()),
            given: if var::may_hold_password(variable) { "..." } else { text }.to_owned(),
            accepted: expected,
        })
    }
}

impl Settings {
    /// `DEBUG`: a common name, so that any other value than ours is a warning and not an error.
    pub(super) fn debug(&self, warnings: &mut Vec<Warning>) -> Result<bool, ConfigError> {
        match self.find(&var::DEBUG)? {
            None => Ok(false),
            Some(given) => Ok(value::switch(&given.text).unwrap_or_else(|_| {
                warnings.push(Warning::ForeignDebug { given: given.text, origin: given.origin });
                false
            })),
        }
    }

    /// `RUST_LOG`, if it is set.
    pub(super) fn log_filter(&self) -> Result<Option<String>, ConfigError> {
        match self.find(&var::LOG_FILTER)? {
            Some(_) => self.read(&var::LOG_FILTER, value::log_filter).map(Some),
            None => Ok(None),
        }
    }
}

/// The variables that have a different name for each role.
struct Own {
    role: Role,
    http: &'static Variable,
    hook: &'static Variable,
}

fn node(
    settings: &Settings,
    identity: IdentityFiles,
    own: &Own,
    warnings: &mut Vec<Warning>,
) -> Result<NodeConfig, ConfigError> {
    let http = own.http;
    let http_bind = settings.read(http, str::parse)?;
    let name = settings.find(http)?.map_or(http.names[0].to_owned(), |given| given.name);
    warnings.extend(Warning::if_public(&name, &http_bind));
    let crl = crl(settings, &identity)?;
    Ok(NodeConfig {
        identity,
        crl,
        handler: choice(settings)?,
        exec_timeout: settings.read(&var::EXEC_TIMEOUT, exec_timeout)?,
        rules: match settings.find(&var::RULES)? {
            Some(_) => Some(settings.read(&var::RULES, value::path)?),
            None => None,
        },
        tcp_targets: settings.read(&var::TCP_TARGETS, tcp::targets)?,
        tcp_listen: settings.read(&var::TCP_LISTEN, |text| tcp::listen(text, own.role))?,
        http_bind,
        http_allowed_hosts: settings.read(&var::ALLOWED_HOSTS, value::hosts)?,
        http_unproven_browsers: settings.read(&var::UNPROVEN_BROWSERS, value::switch)?,
        http_trusted_pages: settings.read(&var::TRUSTED_PAGES, value::peers)?,
        connection_wait: settings.read(&var::CONNECTION_WAIT, connection_wait)?,
        reply_timeout: settings.read(&var::REPLY_TIMEOUT, reply_timeout)?,
        max_body_bytes: settings.read(&var::MAX_BODY, max_body)?,
        hook: hook(settings, own.hook)?,
        statsd: statsd(settings)?,
        drain: settings.read(&var::DRAIN, drain)?,
        debug: settings.debug(warnings)?,
        log_format: settings.read(&var::LOG_FORMAT, value::log_format)?,
        log_filter: settings.log_filter()?,
    })
}

fn choice(settings: &Settings) -> Result<Option<HandlerChoice>, ConfigError> {
    let Some(given) = settings.find(&var::HANDLER)? else { return Ok(None) };
    let handlers = settings.read(&var::HANDLER, handler::read).map_err(|mut error| {
        if let ConfigError::Value { given, .. } = &mut error {
            *given = handler::without_userinfo(given);
        }
        error
    })?;
    Ok(Some(HandlerChoice { handlers, variable: given.name, origin: given.origin }))
}

fn hook(settings: &Settings, variable: &Variable) -> Result<Option<Hook>, ConfigError> {
    let is_set = settings.find(variable)?.is_some();
    if is_set { settings.read(variable, value::hook).map(Some) } else { Ok(None) }
}

/// Absent if neither is set.
fn statsd(settings: &Settings) -> Result<Option<Statsd>, ConfigError> {
    const HOST: &str = "localhost";
    let host = match settings.find(&var::STATSD_HOST)? {
        Some(_) => settings.read(&var::STATSD_HOST, value::host)?,
        None if settings.find(&var::STATSD_PORT)?.is_some() => HOST.to_owned(),
        None => return Ok(None),
    };
    Ok(Some(Statsd { host, port: settings.read(&var::STATSD_PORT, value::target_port)? }))
}

/// The file of revocation lists is beside the identity.
fn crl(settings: &Settings, identity: &IdentityFiles) -> Result<CrlFile, ConfigError> {
    let name = settings.read(&var::CRL, |text| {
        let name = value::file_name(text)?;
        let others = [&identity.key, &identity.crt, &identity.ca];
        if others.iter().any(|other| other.file_name() == Some(name.as_ref())) {
            return Err("another file name than those of the identity".to_owned());
        }
        Ok(name)
    })?;
    let required = settings.find(&var::CRL)?.is_some();
    Ok(CrlFile { path: identity.ca.with_file_name(name), required })
}

/// Interval and timeout. If only the interval is set, the timeout follows it.
pub(super) fn heartbeat(settings: &Settings) -> Result<(Duration, Duration), ConfigError> {
    let interval = settings.read(&var::HEARTBEAT_INTERVAL, heartbeat_interval)?;
    if settings.find(&var::HEARTBEAT_TIMEOUT)?.is_none() {
        return Ok((interval, 2 * interval));
    }
    let timeout =
        settings.read(&var::HEARTBEAT_TIMEOUT, |text| heartbeat_timeout(text, interval))?;
    Ok((interval, timeout))
}

// The accepted values, whatever their source.

pub(super) fn connection_wait(text: &str) -> Result<Duration, Expected> {
    value::seconds(text, 0.0, WAIT_MAX_S)
}

pub(super) fn reply_timeout(text: &str) -> Result<Duration, Expected> {
    value::seconds(text, REPLY_MIN_S, WAIT_MAX_S)
}

pub(super) fn exec_timeout(text: &str) -> Result<Duration, Expected> {
    value::seconds(text, EXEC_MIN_S, WAIT_MAX_S)
}

pub(super) fn drain(text: &str) -> Result<Duration, Expected> {
    value::seconds(text, 0.0, DRAIN_MAX_S)
}

pub(super) fn max_body(text: &str) -> Result<usize, Expected> {
    value::bytes(text, BODY_MAX_BYTES)
}

pub(super) fn heartbeat_interval(text: &str) -> Result<Duration, Expected> {
    value::seconds(text, HEARTBEAT_S.0, HEARTBEAT_S.1)
}

pub(super) fn heartbeat_timeout(text: &str, interval: Duration) -> Result<Duration, Expected> {
    let timeout = value::seconds(text, HEARTBEAT_S.0, HEARTBEAT_TIMEOUT_MAX_S)?;
    if timeout > interval {
        return Ok(timeout);
    }
    Err(format!(
        "a number of seconds larger than {} ({} s)",
        var::HEARTBEAT_INTERVAL.names[0],
        interval.as_secs_f64()
    ))
}

fn server_identity(settings: &Settings) -> Result<IdentityFiles, ConfigError> {
    identity(settings, &var::SERVER_DIRECTORY, [&var::SERVER_KEY, &var::SERVER_CRT, &var::CA_CRT])
}

fn client_identity(settings: &Settings) -> Result<IdentityFiles, ConfigError> {
    identity(settings, &var::CLIENT_DIRECTORY, [&var::CLIENT_KEY, &var::CLIENT_CRT, &var::CA_CRT])
}

/// The names of the key, certificate and CA files, in this order; they must differ.
fn identity(
    settings: &Settings,
    directory: &Variable,
    names: [&Variable; 3],
) -> Result<IdentityFiles, ConfigError> {
    let directory = settings.read(directory, value::path)?;
    let mut taken: Vec<(String, &str)> = Vec::new();
    for variable in names {
        // With the same name, installing one would overwrite the other.
        let name = settings.read(variable, |text| {
            let name = value::file_name(text)?;
            match taken.iter().find(|(earlier, _)| *earlier == name) {
                Some((_, other)) => Err(format!("another file name than that of {other}")),
                None => Ok(name),
            }
        })?;
        taken.push((name, variable.names[0]));
    }
    let [key, crt, ca] = [0, 1, 2].map(|index| directory.join(&taken[index].0));
    Ok(IdentityFiles { key, crt, ca })
}

#[cfg(test)]
mod tests {
    use super::super::Bind;
    use super::*;
    use crate::config::{HandlerSpec, Mounting};

    fn server(pairs: &[(&str, &str)]) -> Result<(ServerConfig, Vec<Warning>), ConfigError> {
        ServerConfig::from_environment(&Environment::from_pairs(pairs.iter().copied()))
    }

    fn client(pairs: &[(&str, &str)]) -> Result<(ClientConfig, Vec<Warning>), ConfigError> {
        ClientConfig::from_environment(&Environment::from_pairs(pairs.iter().copied()))
    }

    fn client_error(pairs: &[(&str, &str)]) -> String {
        client(pairs).map(|(config, _)| config).unwrap_err().to_string()
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn statsd_at(host: &str, port: u16) -> Option<Statsd> {
        Some(Statsd { host: host.to_owned(), port })
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let (server, warnings) = server(&[]).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(server.pipe_bind.to_string(), "[::]:1234");
        assert_eq!(server.node.http_bind.to_string(), "127.0.0.1:8081");
        assert_eq!(server.lookup_hosts, [] as [&str; 0]);
        assert_eq!(server.node.handler, None);
        assert_eq!(server.node.exec_timeout, secs(60));
        assert_eq!(server.node.rules, None);
        assert_eq!(server.node.http_allowed_hosts, [""; 0]);
        assert!(!server.node.http_unproven_browsers);
        assert_eq!(server.node.http_trusted_pages, [""; 0]);
        assert_eq!(server.node.connection_wait, secs(20));
        assert_eq!(server.node.reply_timeout, secs(60));
        assert_eq!(server.node.max_body_bytes, 16 << 20);
        assert_eq!(server.node.drain, secs(10));
        assert_eq!(server.node.hook, None);
        assert_eq!(server.node.statsd, None);
        assert!(!server.node.debug);
        let identity = server.node.identity;
        assert_eq!(identity.key.to_str(), Some("/var/lib/restpipe/restpipe.server.key.pem"));
        assert_eq!(identity.crt.to_str(), Some("/var/lib/restpipe/restpipe.server.crt.pem"));
        assert_eq!(identity.ca.to_str(), Some("/var/lib/restpipe/ca.crt.pem"));
        let crl = CrlFile { path: "/var/lib/restpipe/ca.crl.pem".into(), required: false };
        assert_eq!(server.node.crl, crl);

        let (client, warnings) = client(&[]).unwrap();
        assert_eq!(warnings, []);
        assert_eq!((client.target_host.as_str(), client.target_port), ("localhost", 1234));
        assert_eq!(client.server_name, "localhost");
        assert_eq!((client.heartbeat_interval, client.heartbeat_timeout), (secs(5), secs(10)));
        assert_eq!(client.node.http_bind.to_string(), "127.0.0.1:8082");
        let identity = client.node.identity;
        assert_eq!(identity.key.to_str(), Some("/var/lib/restpipe/restpipe.client.key.pem"));
        assert_eq!(identity.crt.to_str(), Some("/var/lib/restpipe/restpipe.client.crt.pem"));
        assert_eq!(identity.ca.to_str(), Some("/var/lib/restpipe/ca.crt.pem"));
    }

    #[test]
    fn everything_can_be_set() {
        let (server, _) = server(&[
            ("RP_SERVER_BIND_INTERFACE", "::1"),
            ("RP_SERVER_BIND_PORT", "0"),
            ("RP_SERVER_LOOKUP_HOSTS", "Web1.lan,web2.lan"),
            ("RP_SERVER_CERT_PATH", "/a"),
            ("RP_SERVER_KEY_FILENAME", "k"),
            ("RP_SERVER_CRT_FILENAME", "c"),
            ("RP_CA_CRT_FILENAME", "ca"),
            ("RP_CRL_FILENAME", "crl"),
            ("RP_EVENT_HANDLER_FQ_CLASS", "mine"),
            ("RP_RULES_FILE", "/a/rules"),
            ("RP_SERVER_HTTP_BIND", "unix:/tmp/rp.sock"),
            ("RP_HTTP_ALLOWED_HOSTS", "A.local"),
            ("RP_HTTP_UNPROVEN_BROWSERS", "1"),
            ("RP_HTTP_TRUSTED_PAGES", "web1, 10.0.0.5"),
            ("RP_CONNECTION_WAIT_S", "0"),
            ("RP_REPLY_TIMEOUT_S", "0.5"),
            ("RP_MAX_BODY_BYTES", "5"),
            ("RP_DRAIN_S", "1.5"),
            ("RP_SERVER_CONNECTION_STATE_CHANGE_EVENT_CLASS", "exec:/a/changed"),
            ("RP_STATSD_HOST", "::1"),
            ("RP_STATSD_PORT", "1"),
            ("DEBUG", "1"),
        ])
        .unwrap();
        assert_eq!(server.pipe_bind.to_string(), "[::1]:0");
        assert_eq!(server.lookup_hosts, ["web1.lan", "web2.lan"]);
        assert_eq!(server.node.identity.key.to_str(), Some("/a/k"));
        assert_eq!(server.node.identity.crt.to_str(), Some("/a/c"));
        assert_eq!(server.node.identity.ca.to_str(), Some("/a/ca"));
        assert_eq!(server.node.crl, CrlFile { path: "/a/crl".into(), required: true });
        let handler = server.node.handler.unwrap();
        let mine = Mounting::One(HandlerSpec::Named("mine".to_owned()));
        assert_eq!(handler.handlers, mine);
        // The message names the spelling that was used.
        assert_eq!(
            handler.not_among("mine", &["yours", "example"]).to_string(),
            "RP_EVENT_HANDLER_FQ_CLASS is \"mine\"; accepted is yours, example"
        );
        assert_eq!(server.node.rules, Some("/a/rules".into()));
        assert_eq!(server.node.http_bind, Bind::Unix("/tmp/rp.sock".into()));
        assert_eq!(server.node.http_allowed_hosts, ["a.local"]);
        assert!(server.node.http_unproven_browsers);
        assert_eq!(server.node.http_trusted_pages, ["web1", "10.0.0.5"]);
        assert_eq!(server.node.connection_wait, secs(0));
        assert_eq!(server.node.reply_timeout, Duration::from_millis(500));
        assert_eq!(server.node.max_body_bytes, 5);
        assert_eq!(server.node.drain, Duration::from_millis(1500));
        assert_eq!(server.node.hook, Some(Hook { path: "/a/changed".into() }));
        assert_eq!(server.node.statsd, statsd_at("::1", 1));
        assert!(server.node.debug);

        let (client, _) = client(&[
            ("RP_CLIENT_TARGET_HOSTNAME", "10.0.0.1"),
            ("RP_CLIENT_TARGET_PORT", "9"),
            ("RP_CLIENT_SERVER_NAME", "server"),
            ("RP_CLIENT_CERT_PATH", "/b"),
            ("RP_CLIENT_KEY_FILENAME", "k"),
            ("RP_CLIENT_CRT_FILENAME", "c"),
            ("RP_CLIENT_HTTP_BIND", "[::1]:0"),
        ])
        .unwrap();
        assert_eq!((client.target_host.as_str(), client.target_port), ("10.0.0.1", 9));
        assert_eq!(client.server_name, "server");
        assert_eq!(client.node.identity.key.to_str(), Some("/b/k"));
        assert_eq!(client.node.identity.crt.to_str(), Some("/b/c"));
        assert_eq!(client.node.http_bind.to_string(), "[::1]:0");
    }

    #[test]
    fn statsd_is_off_unless_one_of_its_values_is_set() {
        let statsd = |pairs: &[(&str, &str)]| server(pairs).map(|(server, _)| server.node.statsd);
        let (host, port) = ("RP_STATSD_HOST", "RP_STATSD_PORT");
        assert_eq!(statsd(&[]), Ok(None));
        assert_eq!(statsd(&[(host, ""), (port, "")]), Ok(None));
        assert_eq!(statsd(&[(host, "h")]), Ok(statsd_at("h", 8125)));
        assert_eq!(statsd(&[(port, "9")]), Ok(statsd_at("localhost", 9)));
        assert_eq!(statsd(&[(host, ""), (port, "9")]), Ok(statsd_at("localhost", 9)));
        assert_eq!(statsd(&[(host, "h"), (port, "9")]), Ok(statsd_at("h", 9)));
        assert!(statsd(&[(port, "0")]).is_err());
        assert!(statsd(&[(host, "a b")]).is_err());
    }

    #[test]
    fn a_value_of_debug_that_is_not_ours_is_a_warning() {
        for (given, debug) in [("0", false), ("false", false), ("1", true), ("true", true)] {
            let (server, warnings) = server(&[("DEBUG", given)]).unwrap();
            assert_eq!((server.node.debug, warnings), (debug, vec![]), "{given}");
        }
        for given in ["yes", "*", "express:*", "2", "True"] {
            let (server, warnings) = server(&[("DEBUG", given)]).unwrap();
            let text = warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(
                !server.node.debug && text.starts_with(&format!("DEBUG is \"{given}\", which"))
            );
        }
    }

    #[test]
    fn a_filter_of_the_log_may_stand_in_the_file() {
        let (server, _) = server(&[("RUST_LOG", "warn")]).unwrap();
        assert_eq!(server.node.log_filter.as_deref(), Some("warn"));
        for filter in ["loud", "restpipe=loud"] {
            let error = client_error(&[("RUST_LOG", filter)]);
            assert!(
                error.starts_with(&format!("RUST_LOG is \"{filter}\"; accepted is a log filter"))
            );
        }
    }

    #[test]
    fn the_name_to_expect_is_the_targets_unless_told_otherwise() {
        let (client, _) = client(&[("RP_CLIENT_TARGET_HOSTNAME", "rp.example.org")]).unwrap();
        assert_eq!(client.server_name, "rp.example.org");
    }

    #[test]
    fn the_heartbeat_timeout_follows_the_interval_and_is_longer() {
        let pair = |pairs: &[(&str, &str)]| {
            client(pairs).map(|(c, _)| (c.heartbeat_interval, c.heartbeat_timeout))
        };
        let interval = "RP_CLIENT_HEARTBEAT_INTERVAL_S";
        let timeout = "RP_CLIENT_HEARTBEAT_TIMEOUT_S";
        assert_eq!(pair(&[(interval, "30")]).unwrap(), (secs(30), secs(60)));
        assert_eq!(pair(&[(interval, "3600")]).unwrap(), (secs(3600), secs(7200)));
        assert_eq!(pair(&[(timeout, "6")]).unwrap(), (secs(5), secs(6)));
        assert_eq!(pair(&[(interval, "1"), (timeout, "2")]).unwrap(), (secs(1), secs(2)));
        for pairs in [&[(timeout, "5")][..], &[(interval, "2"), (timeout, "2")]] {
            let error = client_error(pairs);
            assert!(error.starts_with(timeout) && error.contains(interval), "{error}");
        }
    }

    #[test]
    fn a_bad_value_is_one_line_with_name_value_and_what_is_accepted() {
        let given = "a\nb".repeat(100);
        let cases = [
            (
                ("RP_CLIENT_TARGET_PORT", "0"),
                "RP_CLIENT_TARGET_PORT is \"0\"; accepted is a port from 1 to 65535",
            ),
            (
                ("RP_EVENT_HANDLER_FQ_CLASS", "a b"),
                "RP_EVENT_HANDLER_FQ_CLASS is \"a b\"; accepted is files:DIR, files+rw:DIR, \
                 exec:DIR, http://HOST:PORT/PREFIX, http+unix:PATH, a name of up to 128 letters, \
                 digits and _ - . :, or several as SEGMENT=HANDLER,...",
            ),
            (
                ("RP_CLIENT_HEARTBEAT_INTERVAL_S", "0"),
                "RP_CLIENT_HEARTBEAT_INTERVAL_S is \"0\"; accepted is a number of seconds from 0.1 \
                 to 3600, such as 2 or 0.5",
            ),
            (
                ("RP_EVENT_HANDLER", "a=http://me:secret@host/,b=https://x"),
                "RP_EVENT_HANDLER is \"a=http://...@host/,b=https://x\"; accepted is an http URL \
                 without a user and password, in \"a=http://...@host/\"",
            ),
            (
                ("RP_CLIENT_CRT_FILENAME", "ca.crt.pem"),
                "RP_CA_CRT_FILENAME is \"ca.crt.pem\"; accepted is another file name than that of \
                 RP_CLIENT_CRT_FILENAME",
            ),
        ];
        for (pair, expected) in cases {
            assert_eq!(client_error(&[pair]), expected);
        }
        let shown = client_error(&[("RP_CLIENT_SERVER_NAME", &given)]);
        assert!(shown.len() < 250 && !shown.contains('\n'), "{shown}");
    }

    #[test]
    fn every_value_is_checked() {
        let cases = [
            ("BIND_IP", "localhost"),
            ("BIND_PORT", "65536"),
            ("RP_SERVER_CERT_PATH", "a\nb"),
            ("RP_SERVER_KEY_FILENAME", "../key"),
            ("RP_SERVER_HTTP_BIND", "8081"),
            ("RP_HTTP_ALLOWED_HOSTS", "a:80"),
            ("RP_HTTP_UNPROVEN_BROWSERS", "yes"),
            ("RP_HTTP_TRUSTED_PAGES", "a\nb"),
            ("RP_SERVER_LOOKUP_HOSTS", "10.0.0.1:80"),
            ("RP_CONNECTION_WAIT_S", "86401"),
            ("RP_REPLY_TIMEOUT_S", "0"),
            ("RP_EXEC_TIMEOUT_S", "0"),
            ("RP_MAX_BODY_BYTES", "1073741825"),
            ("RP_DRAIN_S", "3601"),
            ("RUST_LOG", "restpipe=loud"),
        ];
        for (name, value) in cases {
            let error = server(&[(name, value)]).map(|(config, _)| config).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
        assert!(client_error(&[("RP_CLIENT_TARGET_HOSTNAME", "a b")]).contains("TARGET_HOSTNAME"));
        // Variables of the other role are ignored.
        assert!(server(&[("RP_CLIENT_TARGET_PORT", "0")]).is_ok());
    }

    #[test]
    fn an_http_port_for_everybody_is_a_warning() {
        for (bind, warned) in [
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("10.1.2.3:1", true),
            ("127.5.5.5:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("unix:x", false),
        ] {
            let (_, warnings) = server(&[("RP_SERVER_HTTP_BIND", bind)]).unwrap();
            assert_eq!(!warnings.is_empty(), warned, "{bind}");
            assert!(warnings.iter().all(|w| w.to_string().contains("RP_SERVER_HTTP_BIND")));
        }
    }

    #[test]
    fn an_identity_is_found_where_the_node_looks_for_it() {
        let env = Environment::from_pairs([("RP_CLIENT_CERT_PATH", "/c"), ("RP_TYPO", "1")]);
        let (files, warnings) = IdentityFiles::client(&env).unwrap();
        assert_eq!(files, ClientConfig::from_environment(&env).unwrap().0.node.identity);
        assert_eq!(warnings.len(), 1);
        let (files, _) = IdentityFiles::server(&env).unwrap();
        assert_eq!(files, ServerConfig::from_environment(&env).unwrap().0.node.identity);
    }

    #[test]
    fn debug_shows_no_content_of_a_key_and_nothing_of_other_programs() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), "VERY-SECRET").unwrap();
        let path = directory.path().to_str().unwrap();
        let env = Environment::from_pairs([
            ("RP_SERVER_CERT_PATH", path),
            ("RP_SERVER_KEY_FILENAME", "key"),
            ("AWS_SECRET_ACCESS_KEY", "VERY-SECRET"),
        ]);
        let (config, _) = ServerConfig::from_environment(&env).unwrap();
        let shown = format!("{config:?} {env:?}");
        assert!(shown.contains(path) && !shown.contains("VERY-SECRET"), "{shown}");
    }
}
