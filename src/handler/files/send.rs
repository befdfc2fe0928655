//! Sending a file: the whole file, a part, or no body if the caller already has it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};

use super::conditions::{self, Precondition, Version};
use super::problem::{FileProblem, is_directory, not_a_file, precondition_failed};
use crate::event::{Body, Event, Reply, Source};
use crate::handler::range::Range;

/// The file at this path, according to the request.
pub(super) fn get(dir: &Dir, path: &Path, event: &Event) -> Result<Reply, FileProblem> {
    let (file, metadata) = open(dir, path)?;
    let version = Version::of(&metadata);
    match conditions::check(event, Some(&version), true) {
        Precondition::Holds => {}
        Precondition::NotModified => {
            return Ok(version.mark(Reply::new("", Body::empty()).with_status(304)));
        }
        Precondition::Failed => return Err(precondition_failed()),
    }
    // Ranges are defined for GET only (RFC 9110, section 14.2).
    let is_asked = !event.head_only && conditions::range_applies(event, &version);
    let range = Range::of(event.header("range").filter(|_| is_asked), metadata.len());
    let media_type = mime_guess::from_path(path).first_or_octet_stream();
    let reply = range.reply(media_type.essence_str(), metadata.len(), |from, to| {
        let length = Some(to - from);
        if event.head_only {
            Body::left_out(length)
        } else {
            Body::from_source(Part { file, at: from, end: to }, length)
        }
    });
    Ok(version.mark(reply))
}

/// Opens a regular file. Never blocks, not even on a FIFO.
fn open(dir: &Dir, path: &Path) -> Result<(File, Metadata), FileProblem> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = dir.open_with(path, &options)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file.into_std(), metadata))
    } else if metadata.is_dir() {
        Err(is_directory())
    } else {
        Err(not_a_file())
    }
}

/// The bytes of a file between two offsets, read on demand.
struct Part {
    file: File,
    at: u64,
    end: u64,
}

impl Source for Part {
    fn read_within(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let count = loop {
            match self.file.read_at(&mut buffer[..most], self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 && most > 0 {
            let error = format!("the file has become shorter, and ends at byte {}", self.at);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        self.at += count as u64;
        Ok(Some(count))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1000]).unwrap();
        let part = Part { file: file.try_clone().unwrap(), at: 100, end: 900 };
        let mut body = Body::from_source(part, Some(800));
        let mut buffer = [0; 300];
        assert_eq!(body.read(&mut buffer).unwrap(), 300);
        file.set_len(500).unwrap();
        let mut rest = Vec::new();
        let error = body.read_to_end(&mut rest).unwrap_err();
        assert_eq!((rest.len(), error.kind()), (100, io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn a_part_ends_where_it_was_to_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut part = Vec::new();
        let source = Part { file, at: 3, end: 6 };
        Body::from_source(source, Some(3)).read_to_end(&mut part).unwrap();
        assert_eq!(part, b"345");
    }
}
