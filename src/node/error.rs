//! Why a node fails to start.

use std::io;

use crate::config::ConfigError;
use crate::event::peer::Role;
use crate::identity::IdentityError;
use crate::lifecycle::hook::Unusable;
use crate::metrics::exposition;
use crate::net::accept::BindError;
use crate::rules::LoadError;

/// Why a node fails to start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configuration value is invalid.
    #[error("{0}")]
    Config(ConfigError),
    /// The hook program cannot be run.
    #[error("RP_{role}_CONNECTION_STATE_CHANGE_EVENT_CLASS: {1}", role = .0.as_str().to_ascii_uppercase())]
    Hook(Role, Unusable),
    /// The identity cannot be used.
    #[error("{0}")]
    Identity(IdentityError),
    /// The rules cannot be used.
    #[error("{0}")]
    Rules(LoadError),
    /// The local HTTP port cannot be bound.
    #[error("the local HTTP port: {0}")]
    Http(BindError),
    /// A port that leads to a target of a peer cannot be bound.
    #[error("a port of RP_TCP_LISTEN: {0}")]
    Tcp(BindError),
    /// The pipe port cannot be bound.
    #[error("the pipe port: {0}")]
    Pipe(BindError),
    /// The counters cannot be set up.
    #[error("cannot set up the counters: {0}")]
    Metrics(exposition::Error),
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}
