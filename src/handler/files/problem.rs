//! Why a file is not served or stored, and the replies for that.

use std::io::{self, ErrorKind};

use crate::event::Reply;
use crate::event::errors::{self, AnswerError};
use crate::handler::Failure;

/// Why an operation on a file failed.
#[derive(Debug)]
pub(super) enum FileProblem {
    /// A reply with this error.
    Refused {
        /// The error's name and status.
        error: AnswerError,
        /// The message for people; it follows the path.
        message: String,
    },
    /// The file system cannot be changed.
    ReadOnly,
    /// Too many operations are in progress.
    Busy(&'static str),
    /// Handled like a failure of any handler.
    Failed(Failure),
}

impl FileProblem {
    /// A reply with this error and message.
    pub fn refused(error: AnswerError, message: impl Into<String>) -> Self {
        Self::Refused { error, message: message.into() }
    }

    /// The reply for this path.
    pub fn reply(self, path: &[String]) -> Result<Reply, Failure> {
        match self {
            Self::Refused { error, message } => {
                Ok(error.reply(&format!("{}: {message}", path.join("/"))))
            }
            Self::ReadOnly => {
                let message = "the file system is read-only there; see the log of this side";
                Self::refused(errors::FORBIDDEN, message).reply(path)
            }
            Self::Busy(message) => Ok(Reply::busy(message)),
            Self::Failed(failure) => Err(failure),
        }
    }
}

/// Maps a file system error to an HTTP error.
impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (_, Some(libc::EMFILE | libc::ENFILE)) => Self::Busy("too many files are open"),
            (_, Some(libc::ELOOP)) => {
                Self::refused(errors::FORBIDDEN, "its links lead in a circle")
            }
            // Opening a socket, or a device without a driver, fails with these.
            (_, Some(libc::ENXIO | libc::ENODEV)) => not_a_file(),
            (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => {
                Self::refused(errors::NOT_FOUND, "there is no such file or directory")
            }
            (ErrorKind::ReadOnlyFilesystem, _) => Self::ReadOnly,
            (ErrorKind::PermissionDenied, _) => {
                Self::refused(errors::FORBIDDEN, "the system does not permit it, or it leads out")
            }
            (ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty, _) => is_directory(),
            (ErrorKind::InvalidFilename, _) => {
                Self::refused(errors::BAD_PATH, "a name in it, or all of it, is too long")
            }
            (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _) => {
                Self::refused(errors::NO_SPACE, "there is no room left for it")
            }
            _ => Self::Failed(Failure::from(error)),
        }
    }
}

/// A directory where a file is required.
pub(super) fn is_directory() -> FileProblem {
    FileProblem::refused(
        errors::IS_DIRECTORY,
        "it is a directory; GET list//PATH shows what it holds",
    )
}

/// A FIFO, a device or a socket where a file is required.
pub(super) fn not_a_file() -> FileProblem {
    FileProblem::refused(errors::NOT_A_FILE, "it is neither a file nor a directory")
}

pub(super) fn precondition_failed() -> FileProblem {
    FileProblem::refused(
        errors::PRECONDITION_FAILED,
        "the file is not as the request's condition says",
    )
}
