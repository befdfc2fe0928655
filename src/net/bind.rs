//! Where a local port listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a local port listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `IP:PORT`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
