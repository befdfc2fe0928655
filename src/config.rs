//! The settings of a node, from its environment or from the program it runs in, as checked values.
//!
//! A program makes a [`ServerConfig`] or [`ClientConfig`] with `new`, which has the documented
//! defaults, and sets the fields it wants otherwise. `from_environment` reads the variables.
//!
//! In scope: names, defaults, limits and messages of every variable. Not in scope: what the values
//! do. Only this module and the programs read the environment.

mod by_hand;
mod environment;
mod error;
mod file;
mod handler;
mod help;
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
    /// What answers events; absent: what the program prefers, `example` in ours.
    pub handler: Option<HandlerChoice>,
    /// How long a script that answers an event may run.
    pub exec_timeout: Duration,
    /// The file of rules about who may ask what; absent: every peer may ask anything.
    pub rules: Option<PathBuf>,
    /// The servers of this side that peers may reach, by the names that peers call them by.
    pub tcp_targets: BTreeMap<String, Address>,
    /// The local ports that lead to targets of peers.
    pub tcp_listen: Vec<(Bind, TunnelTarget)>,
    /// The local HTTP port.
    pub http_bind: Bind,
    /// Expected `Host` names beside loopback ones, lower case.
    pub http_allowed_hosts: Vec<String>,
    /// How long a request waits for a peer that is away.
    pub connection_wait: Duration,
    /// How long a request waits for its reply.
    pub reply_timeout: Duration,
    /// The largest body that is taken, in bytes.
    pub max_body_bytes: usize,
    /// The program that is run for each connection event; see [`Hook`].
    pub hook: Option<Hook>,
    /// Where counts and timings go; absent: nowhere.
    pub statsd: Option<Statsd>,
    /// How long a stopping node finishes what is in flight.
    pub drain: Duration,
    /// Whether failures of handlers are sent with their trace.
    pub debug: bool,
    /// What a line of the log looks like.
    pub log_format: LogFormat,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level and message, for people.
    #[default]
    Text,
    /// A JSON object with `time`, `level` and `message`.
    Json,
}

/// A program that is run for each connection event, with the event's name and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its file, which has to be there and executable when a node starts.
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
    /// Where pipes are accepted.
    pub pipe_bind: SocketAddr,
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
    /// The proxy that leads to this server; absent: it is dialled itself.
    pub proxy: Option<Proxy>,
    /// The name to expect in the server's certificate.
    pub server_name: String,
    /// Other servers, in the order of preference.
    pub further_targets: Vec<ServerTarget>,
    /// What to do with more than one.
    pub target_mode: TargetMode,
    /// How often a heartbeat is sent.
    pub heartbeat_interval: Duration,
    /// For how long the server may be silent; longer than the interval.
    pub heartbeat_timeout: Duration,
}

/// The files of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate, PEM, with intermediate ones after it.
    pub crt: PathBuf,
    /// The certificates of the CAs that peers are checked against, PEM.
    pub ca: PathBuf,
}

/// The file of revocation lists, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it was asked for, so that it has to be there.
    pub required: bool,
}
