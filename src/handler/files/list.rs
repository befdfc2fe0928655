//! Listing a directory as JSON.

use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cap_std::fs::{Dir, DirEntry, Metadata, MetadataExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::path::UNFINISHED;
use super::problem::FileProblem;
use crate::event::{Event, Reply};
use crate::handler::{Context, Failure};

/// Maximum number of entries per reply. `?after=` returns the next ones.
const MAX_ENTRIES: usize = 10_000;
/// The characters that are not encoded in a path (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The entries of a directory, ordered by the bytes of their names.
pub(super) fn get(
    dir: &Dir,
    path: &Path,
    context: &Context,
    event: &Event,
) -> Result<Reply, FileProblem> {
    let after: Vec<u8> = event
        .target
        .query_value("after")
        .map_or(Vec::new(), |name| percent_decode_str(name).collect());
    let mut kept = BinaryHeap::new();
    let mut more = false;
    for entry in dir.read_dir(path)? {
        if context.is_cancelled() {
            return Err(FileProblem::Failed(Failure::exception(
                "Cancelled",
                "nobody waits for it",
            )));
        }
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes() <= after.as_slice() || name.as_bytes().starts_with(UNFINISHED.as_bytes())
        {
            continue;
        }
        kept.push(Named { name, entry });
        if kept.len() > MAX_ENTRIES {
            kept.pop();
            more = true;
        }
    }
    let kept = kept.into_sorted_vec();
    let next = kept.last().filter(|_| more).map(|last| encoded(&last.name));
    let entries = kept.into_iter().filter_map(|named| named.described().transpose());
    let entries = entries.collect::<io::Result<Vec<Value>>>()?;
    let mut list = Map::new();
    list.insert("entries".to_owned(), entries.into());
    if let Some(next) = next {
        list.insert("next".to_owned(), next.into());
    }
    Ok(Value::Object(list).into())
}

/// An entry, ordered by the bytes of its name.
struct Named {
    name: OsString,
    entry: DirEntry,
}

impl Named {
    /// Its fields in the list; `None` if it no longer exists.
    fn described(self) -> io::Result<Option<Value>> {
        let metadata = match self.entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut fields = Map::new();
        match self.name.to_str() {
            Some(name) => fields.insert("name".to_owned(), name.into()),
            None => {
                fields.insert("name".to_owned(), self.name.to_string_lossy().into());
                // No path can name it, since paths are UTF-8; this at least distinguishes it from
                // the others.
                fields.insert("not_utf8".to_owned(), encoded(&self.name).into())
            }
        };
        fields.insert("kind".to_owned(), kind(&metadata).into());
        if metadata.is_file() {
            fields.insert("size".to_owned(), metadata.len().into());
        }
        fields
            .insert("modified".to_owned(), modified(&metadata).map_or(Value::Null, |at| json!(at)));
        Ok(Some(Value::Object(fields)))
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.as_bytes().cmp(other.name.as_bytes())
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Named {}

/// A link is listed as a link, wherever it leads.
fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_file() {
        "file"
    } else if metadata.is_dir() {
        "directory"
    } else if metadata.is_symlink() {
        "link"
    } else {
        "other"
    }
}

/// Formats a time as in `2026-11-20T08:37:31Z` (RFC 3339); `None` outside the years 0 to 9999.
fn modified(metadata: &Metadata) -> Option<String> {
    let at =
        OffsetDateTime::from_unix_timestamp(metadata.mtime()).ok().filter(|at| at.year() >= 0)?;
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

fn encoded(name: &OsString) -> String {
    percent_encode(name.as_bytes(), ENCODED).to_string()
}
