//! The version of a file, and the conditions of a request on it (RFC 9110, section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_std::fs::{Metadata, MetadataExt};

use crate::event::{Event, Reply};

/// A version of a file; it changes whenever the content does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Size, modification time in nanoseconds, and inode, in quotes.
    etag: String,
    /// Modification time in whole seconds, if HTTP can express it: since 1970 and not in the
    /// future.
    modified: Option<SystemTime>,
}

impl Version {
    /// The version that has this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        let since = u64::try_from(seconds).ok().map(Duration::from_secs);
        let modified = since.and_then(|since| UNIX_EPOCH.checked_add(since));
        Self {
            etag: format!(
                "\"{:x}-{seconds:x}.{nanoseconds:x}-{:x}\"",
                metadata.len(),
                metadata.ino()
            ),
            modified: modified.filter(|modified| *modified <= SystemTime::now()),
        }
    }

    /// Adds the headers that identify this version.
    pub fn mark(&self, reply: Reply) -> Reply {
        let reply = reply.with_header("ETag", &self.etag);
        match self.modified {
            Some(modified) => reply.with_header("Last-Modified", httpdate::fmt_http_date(modified)),
            None => reply,
        }
    }
}

/// The result of evaluating a request's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Perform the request.
    Holds,
    /// The caller already has this version: 304.
    NotModified,
    /// The current version is not the one the caller expects: 412.
    Failed,
}

/// Evaluates a request's conditions against the current version, in the order of section 13.2.2.
/// `reads` is whether the request only reads.
pub(super) fn check(event: &Event, current: Option<&Version>, reads: bool) -> Precondition {
    let modified = current.and_then(|current| current.modified);
    match is_among(event, "if-match", current, true) {
        Some(true) => {}
        Some(false) => return Precondition::Failed,
        None => {
            if let (Some(date), Some(modified)) = (date(event, "if-unmodified-since"), modified)
                && modified > date
            {
                return Precondition::Failed;
            }
        }
    }
    match is_among(event, "if-none-match", current, false) {
        Some(true) if reads => Precondition::NotModified,
        Some(true) => Precondition::Failed,
        Some(false) => Precondition::Holds,
        None => match (date(event, "if-modified-since"), modified) {
            (Some(date), Some(modified)) if reads && modified <= date => Precondition::NotModified,
            _ => Precondition::Holds,
        },
    }
}

/// Whether the `Range` of a request applies to this version (section 13.1.5).
pub(super) fn range_applies(event: &Event, current: &Version) -> bool {
    /// A file that changed more recently than this may change again within the same second.
    const SETTLED: Duration = Duration::from_secs(2);
    let Some(wanted) = event.header("if-range").map(str::trim) else { return true };
    if wanted.starts_with('"') {
        return wanted == current.etag;
    }
    let Some(modified) = current.modified else { return false };
    let is_settled = modified.elapsed().is_ok_and(|age| age >= SETTLED);
    is_settled && httpdate::parse_http_date(wanted).is_ok_and(|date| date == modified)
}

/// Whether this header lists the version's entity tag; `None` if the header is missing. A strong
/// comparison ignores weak tags (section 8.8.3.2).
fn is_among(event: &Event, name: &str, current: Option<&Version>, strong: bool) -> Option<bool> {
    let mut values = event
        .headers
        .iter()
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .peekable();
    values.peek()?;
    let Some(current) = current else { return Some(false) };
    let is_in = |list: &str| list == "*" || has_tag(list, &current.etag, strong);
    Some(values.any(is_in))
}

/// Searches a list such as `"a", W/"b"` for a tag. Parsing stops at the first syntax error.
fn has_tag(list: &str, wanted: &str, strong: bool) -> bool {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (is_weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let Some(end) = tag.strip_prefix('"').and_then(|tag| tag.find('"')) else { return false };
        let (tag, behind) = tag.split_at(end + 2);
        if tag == wanted && !(strong && is_weak) {
            return true;
        }
        rest = behind;
    }
}

/// A date header of the request. An invalid one is ignored, as section 13.1.3 requires.
fn date(event: &Event, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(event.header(name)?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Verb;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn version() -> Version {
        let modified = httpdate::parse_http_date(DATE).unwrap();
        Version { etag: "\"1-2\"".to_owned(), modified: Some(modified) }
    }

    fn event(headers: &[(&str, &str)]) -> Event {
        let mut event = Event::new(Verb::Get, "file//a").unwrap();
        event.headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        event
    }

    #[test]
    fn conditions_are_judged_as_the_rfc_says() {
        use Precondition::{Failed, Holds, NotModified};
        // The headers, and the result for a read and for a write.
        for (headers, read, write) in [
            (&[][..], Holds, Holds),
            (&[("If-Match", "\"1-2\"")], Holds, Holds),
            (&[("If-Match", "*")], Holds, Holds),
            (&[("If-Match", "\"x\" ,\"1-2\"")], Holds, Holds),
            (&[("If-Match", "\"x\""), ("If-Match", "\"1-2\"")], Holds, Holds),
            (&[("If-Match", "W/\"1-2\"")], Failed, Failed),
            (&[("If-Match", "1-2")], Failed, Failed),
            (&[("If-Match", "\"1-2")], Failed, Failed),
            (&[("If-Match", "\"x\"")], Failed, Failed),
            (&[("If-Match", "")], Failed, Failed),
            (&[("If-None-Match", "\"1-2\"")], NotModified, Failed),
            (&[("If-None-Match", "*")], NotModified, Failed),
            (&[("if-none-match", "\"a,b\", W/\"1-2\"")], NotModified, Failed),
            (&[("If-None-Match", "\"x\"")], Holds, Holds),
            (&[("If-None-Match", "\"x\""), ("If-Modified-Since", DATE)], Holds, Holds),
            (&[("If-Modified-Since", DATE)], NotModified, Holds),
            (&[("If-Modified-Since", BEFORE)], Holds, Holds),
            (&[("If-Modified-Since", "yesterday")], Holds, Holds),
            (&[("If-Unmodified-Since", DATE)], Holds, Holds),
            (&[("If-Unmodified-Since", BEFORE)], Failed, Failed),
            (&[("If-Match", "\"1-2\""), ("If-Unmodified-Since", BEFORE)], Holds, Holds),
            (&[("If-Match", "\"1-2\""), ("If-None-Match", "\"1-2\"")], NotModified, Failed),
        ] {
            let event = event(headers);
            assert_eq!(check(&event, Some(&version()), true), read, "{headers:?}");
            assert_eq!(check(&event, Some(&version()), false), write, "{headers:?}");
        }
        // The file does not exist.
        assert_eq!(check(&event(&[("If-Match", "*")]), None, false), Failed);
        assert_eq!(check(&event(&[("If-None-Match", "*")]), None, false), Holds);
    }

    #[test]
    fn a_range_is_for_the_version_that_was_meant() {
        for (wanted, expected) in [
            ("\"1-2\"", true),
            ("\"1-3\"", false),
            ("W/\"1-2\"", false),
            (DATE, true),
            (BEFORE, false),
            ("x", false),
        ] {
            assert_eq!(range_applies(&event(&[("If-Range", wanted)]), &version()), expected);
        }
        assert!(range_applies(&event(&[]), &version()));
        let now = httpdate::parse_http_date(&httpdate::fmt_http_date(SystemTime::now())).unwrap();
        let fresh = Version { etag: String::new(), modified: Some(now) };
        let date = httpdate::fmt_http_date(now);
        assert!(!range_applies(&event(&[("If-Range", &date)]), &fresh), "it may change again");
    }
}
