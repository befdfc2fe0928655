//! Why a file is neither sent nor stored, and the answers that say so.

use std::io::{self, ErrorKind};

use crate::event::Reply;
use crate::handler::Failure;

/// Why there is no file for the caller.
#[derive(Debug)]
pub(super) enum FileProblem {
    /// An answer with this status.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it is called in the answer.
        error: &'static str,
        /// For people, to stand behind the path.
        message: String,
    },
    /// Too much is going on.
    Busy(&'static str),
    /// The same as for any handler.
    Failed(Failure),
}

impl FileProblem {
    /// An answer with this status, name and message.
    pub fn refused(status: u16, error: &'static str, message: impl Into<String>) -> Self {
        Self::Refused { status, error, message: message.into() }
    }

    /// The reply about this path.
    pub fn reply(self, path: &[String]) -> Result<Reply, Failure> {
        match self {
            Self::Refused { status, error, message } => {
                Ok(Reply::error(status, error, &format!("{}: {message}", path.join("/"))))
            }
            Self::Busy(message) => Ok(Reply::busy(message)),
            Self::Failed(failure) => Err(failure),
        }
    }
}

/// An error of the file system as an answer by HTTP.
impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (_, Some(libc::EMFILE | libc::ENFILE)) => Self::Busy("too many files are open"),
            (_, Some(libc::ELOOP)) => Self::refused(403, "forbidden", "its links lead in a circle"),
            // How a socket, or a device without a driver, answers to being opened.
            (_, Some(libc::ENXIO | libc::ENODEV)) => not_a_file(),
            (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => {
                Self::refused(404, "not_found", "there is no such file or directory")
            }
            (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, _) => {
                Self::refused(403, "forbidden", "the system does not permit it, or it leads out")
            }
            (ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty, _) => is_directory(),
            (ErrorKind::InvalidFilename, _) => {
                Self::refused(400, "bad_path", "a name in it, or all of it, is too long")
            }
            (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _) => {
                Self::refused(507, "no_space", "there is no room left for it")
            }
            _ => Self::Failed(Failure::from(error)),
        }
    }
}

/// A directory where a file was asked for.
pub(super) fn is_directory() -> FileProblem {
    FileProblem::refused(
        409,
        "is_directory",
        "it is a directory; GET list//PATH shows what it holds",
    )
}

/// A FIFO, a device or a socket where a file was asked for.
pub(super) fn not_a_file() -> FileProblem {
    FileProblem::refused(403, "not_a_file", "it is neither a file nor a directory")
}

/// The request's conditions do not hold.
pub(super) fn precondition_failed() -> FileProblem {
    FileProblem::refused(
        412,
        "precondition_failed",
        "the file is not as the request's condition says",
    )
}
