//! The settings of a node, from its environment or from the embedding program, as checked values.
//!
//! A program makes a [`ServerConfig`] or [`ClientConfig`] with `new`, which sets the documented
//! defaults, and overrides fields. `from_environment` reads the variables.
//!
//! In scope: names, defaults, limits and messages of every variable. Not in scope: the effect of
//! the values. Only this module and the programs read the environment.

mod by_hand;
mod environment;
mod error;
pub(crate) mod file;
mod handler;
mod help;
pub(crate) mod nearest;
mod proxy;
mod remoted;
mod roles;
mod service;
mod settings;
mod target;
mod tcp;
mod value;
mod variables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use environment::Environment;
pub use error::{ConfigError, SettingOrigin, Warning};
pub use handler::{HandlerChoice, HandlerSpec, Mount, Mounting};
pub use help::variables_text;
pub use remoted::{BrokerConfig, EndConfig, IdleLimit, TlsFiles};
pub use service::ServiceAddress;
pub use settings::settings_text;
pub use target::{ServerTarget, TargetMode};
pub use tcp::TunnelTarget;
pub use variables::{Reader, VARIABLES, Variable};

pub use crate::net::Bind;
pub use crate::net::dial::{Address, Proxy};

/// The settings of both roles.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The files that prove who this node is.
    pub identity: IdentityFiles,
    /// The file of revocation lists.
    pub crl: CrlFile,
    /// What answers events; absent: the program's default, `example` in the programs of this crate.
    pub handler: Option<HandlerChoice>,
    /// How long a script for an event may run.
    pub exec_timeout: Duration,
    /// The file with the rules for requests of peers; absent: every peer may request anything.
    pub rules: Option<PathBuf>,
    /// The servers on this side that peers may reach, by the names that peers use.
    pub tcp_targets: BTreeMap<String, Address>,
    /// The local ports that lead to targets of peers.
    pub tcp_listen: Vec<(Bind, TunnelTarget)>,
    /// The local HTTP port.
    pub http_bind: Bind,
    /// Accepted `Host` names besides loopback ones, lower case.
    pub http_allowed_hosts: Vec<String>,
    /// Whether a browser may ask peers without showing for which page.
    pub http_unproven_browsers: bool,
    /// The peers whose web pages get the rights of the whole port; `*` for all.
    pub http_trusted_pages: Vec<String>,
    /// How long a request waits for a disconnected peer.
    pub connection_wait: Duration,
    /// How long a request waits for its reply.
    pub reply_timeout: Duration,
    /// The largest accepted body, in bytes.
    pub max_body_bytes: usize,
    /// The program to run for each connection event; see [`Hook`].
    pub hook: Option<Hook>,
    /// The destination of counts and timings; absent: none.
    pub statsd: Option<Statsd>,
    /// How long a stopping node waits for requests in flight.
    pub drain: Duration,
    /// Whether handler failures are sent with a traceback.
    pub debug: bool,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The filter of log lines; absent: `info`, or with `debug` all.
    pub log_filter: Option<String>,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level and message, for people.
    #[default]
    Text,
    /// A JSON object with `time`, `level` and `message`.
    Json,
}

/// A program to run for each connection event, with the event's name and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its file, which must exist and be executable when a node starts.
    pub path: PathBuf,
}

/// Where statsd listens for UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The settings of both roles.
    pub node: NodeConfig,
    /// The address on which pipes are accepted.
    pub pipe_bind: SocketAddr,
    /// Host names, lower case, that a request may use for a client besides its name and its
    /// address: they are looked up. `localhost` is always understood.
    pub lookup_hosts: Vec<String>,
}

/// The settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The settings of both roles.
    pub node: NodeConfig,
    /// Host name or address of the server.
    pub target_host: String,
    /// Port of the server's pipe.
    pub target_port: u16,
    /// The proxy to this server; absent: direct connection.
    pub proxy: Option<Proxy>,
    /// The name to expect in the server's certificate.
    pub server_name: String,
    /// Other servers, in order of preference.
    pub further_targets: Vec<ServerTarget>,
    /// How to use several servers.
    pub target_mode: TargetMode,
    /// How often a heartbeat is sent.
    pub heartbeat_interval: Duration,
    /// How long the server may be silent; longer than the interval.
    pub heartbeat_timeout: Duration,
}

/// The files of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate, PEM, followed by intermediate ones.
    pub crt: PathBuf,
    /// The CA certificates that peers are checked against, PEM.
    pub ca: PathBuf,
}

/// The file of revocation lists, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFile {
    /// Its path.
    pub path: PathBuf,
    /// Whether it was set explicitly and must exist.
    pub required: bool,
}
