//! Failures of a proxy.

use std::io;

/// Why connecting through a proxy failed. Displays as the end of a line that begins with the
/// proxy's address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// It did not answer in time.
    #[error("the proxy did not answer in time")]
    Silent,
    /// It closed the connection instead of answering.
    #[error("the proxy closed the connection instead of answering")]
    Closed,
    /// It requires credentials, and none are set.
    #[error("the proxy asks for a user and a password, and none is set")]
    NoCredentials,
    /// It rejected the credentials.
    #[error("the proxy does not accept the user and password that are set")]
    WrongCredentials,
    /// It refused to connect; its reason.
    #[error("the proxy refused: {0}")]
    Refused(String),
    /// Its response is malformed.
    #[error("the proxy's answer cannot be understood: {0}")]
    Malformed(&'static str),
    /// The proxy's protocol cannot express the host.
    #[error("{0}")]
    Host(&'static str),
    /// The connection failed.
    #[error("the connection to the proxy failed: {0}")]
    Io(io::Error),
}

impl ProxyError {
    /// The error for missing or, if `given`, rejected credentials.
    pub fn credentials(given: bool) -> Self {
        if given { Self::WrongCredentials } else { Self::NoCredentials }
    }
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket timeout is either, depending on the system.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
