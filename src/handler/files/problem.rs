//! Why a file is neither sent nor stored, and the answers that say so.

use std::io::{self, ErrorKind};

use crate::event::Reply;
use crate::event::errors::{self, AnswerError};
use crate::handler::Failure;

/// Why there is no file for the caller.
#[derive(Debug)]
pub(super) enum FileProblem {
    /// An answer with this status.
    Refused {
        /// What it is called in the answer.
        error: AnswerError,
        /// For people, to stand behind the path.
        message: String,
    },
    /// Too much is going on.
    Busy(&'static str),
    /// The same as for any handler.
    Failed(Failure),
}

impl FileProblem {
    /// An answer with this error and message.
    pub fn refused(error: AnswerError, message: impl Into<String>) -> Self {
        Self::Refused { error, message: message.into() }
    }

    /// The reply about this path.
    pub fn reply(self, path: &[String]) -> Result<Reply, Failure> {
        match self {
            Self::Refused { error, message } => {
                Ok(error.reply(&format!("{}: {message}", path.join("/"))))
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
            (_, Some(libc::ELOOP)) => {
                Self::refused(errors::FORBIDDEN, "its links lead in a circle")
            }
            // How a socket, or a device without a driver, answers to being opened.
            (_, Some(libc::ENXIO | libc::ENODEV)) => not_a_file(),
            (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => {
                Self::refused(errors::NOT_FOUND, "there is no such file or directory")
            }
            (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, _) => {
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

/// A directory where a file was asked for.
pub(super) fn is_directory() -> FileProblem {
    FileProblem::refused(
        errors::IS_DIRECTORY,
        "it is a directory; GET list//PATH shows what it holds",
    )
}

/// A FIFO, a device or a socket where a file was asked for.
pub(super) fn not_a_file() -> FileProblem {
    FileProblem::refused(errors::NOT_A_FILE, "it is neither a file nor a directory")
}

/// The request's conditions do not hold.
pub(super) fn precondition_failed() -> FileProblem {
    FileProblem::refused(
        errors::PRECONDITION_FAILED,
        "the file is not as the request's condition says",
    )
}
