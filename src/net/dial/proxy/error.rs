//! Why a proxy leads nowhere.

use std::io;

/// Why a proxy leads nowhere. Displays as the end of a line that begins with the proxy's address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// It did not answer in time.
    #[error("the proxy did not answer in time")]
    Silent,
    /// It ended the connection instead of answering.
    #[error("the proxy closed the connection instead of answering")]
    Closed,
    /// It wants a user and a password, and was given none.
    #[error("the proxy asks for a user and a password, and none is set")]
    NoCredentials,
    /// It does not know the user and the password that it was given.
    #[error("the proxy does not accept the user and password that are set")]
    WrongCredentials,
    /// It does not connect us; its reason.
    #[error("the proxy refused: {0}")]
    Refused(String),
    /// What it answered is no answer.
    #[error("the proxy's answer cannot be understood: {0}")]
    Malformed(&'static str),
    /// The host cannot be asked for in this proxy's protocol.
    #[error("{0}")]
    Host(&'static str),
    /// The connection failed.
    #[error("the connection to the proxy failed: {0}")]
    Io(io::Error),
}

impl ProxyError {
    /// It wants a user and a password that it knows; `given`: whether it was given one.
    pub fn credentials(given: bool) -> Self {
        if given { Self::WrongCredentials } else { Self::NoCredentials }
    }
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket's timeout is either, depending on the system.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
