//! The address of a local port.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The capacity of `sockaddr_un` on Linux without the terminating zero byte (unix(7)).
pub(crate) const MAX_SOCKET_PATH: usize = 107;

/// The address of a local port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `IP:PORT`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// The error says what is expected.
impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = (1..=MAX_SOCKET_PATH).contains(&path.len());
            return if fits && !path.chars().any(char::is_control) {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("unix: and a path of 1 to {MAX_SOCKET_PATH} bytes"))
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            "IP:PORT, such as 127.0.0.1:8081 or [::1]:8081, or unix: and the path of a socket"
                .to_owned()
        })
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
