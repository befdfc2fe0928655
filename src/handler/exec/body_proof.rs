//! The proof that a script's input was complete.
//!
//! The end of a pipe proves nothing: it also ends if the node is killed. So a second pipe, which the
//! script inherits, receives a line after the last byte of the body, and nothing otherwise.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};

/// The variable that holds the path of the proof.
pub(super) const VARIABLE: &str = "RP_BODY_END";
/// What the script reads there once it has been given the whole body.
const WHOLE: &[u8] = b"whole\n";

/// The script's end of the proof.
pub(super) struct BodyProofReader(OwnedFd);

/// The node's end of the proof. Dropping it says that the body was not complete.
pub(super) struct BodyProof(io::PipeWriter);

/// Both ends.
pub(super) fn pair() -> io::Result<(BodyProofReader, BodyProof)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((BodyProofReader(reader), BodyProof(writer.into())))
}

impl BodyProofReader {
    /// The path at which the script that inherits the descriptor opens it.
    pub fn path(&self) -> String {
        format!("/dev/fd/{}", self.0.as_raw_fd())
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl BodyProof {
    /// The script has been given the whole body. To be called before its input is closed.
    pub fn give(mut self) {
        // The pipe is empty, so this does not block. It fails if the script has not kept its end.
        let _ = self.0.write_all(WHOLE);
    }
}
