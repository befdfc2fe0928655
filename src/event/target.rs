//! What follows `/server/` or `/client/NAME/` in a path: `NOUN[//P1/P2...][?query]`.
//!
//! It is split before each piece is decoded, once, so an encoded slash inside a parameter stays
//! inside it. The noun may be empty; it then names the root of the handler.
//!
//! The path must be UTF-8 once decoded: rules decide by it. What only a handler reads is judged only
//! there ([`Target::check`]): a service may be sent any query.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

/// Longest accepted target, in bytes, encoded or decoded. The head of a request is limited to 16
/// KiB as a whole, as is a target from a peer.
const MAX_TARGET: usize = 16 * 1024;
/// Most parameters and most query fields that a handler reads.
const MAX_PIECES: usize = 256;

/// The memory of one of several texts, in bytes, roughly: with its place in the list, and what the
/// allocator adds.
pub(super) fn text_memory(text: &str) -> usize {
    text.len() + 40
}

/// A parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    raw: Option<String>,
    noun: String,
    parameters: Vec<String>,
    query: Vec<(String, String)>,
    /// Why there are no parameters or no query, although they were sent. `raw` then has them.
    unreadable: Option<TargetError>,
    /// Its first segment was removed: a path of two leading slashes then needs no further slash.
    prefix_stripped: bool,
}

impl Target {
    /// Parses a percent-encoded target as a caller sent it.
    pub fn parse(raw: &str) -> Result<Self, TargetError> {
        limit("target bytes", raw.len(), MAX_TARGET)?;
        let (path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        let (noun, parameters) = split_parameters(path);
        let noun = decode(noun)?;
        let mut unreadable = None;
        let parameters = match parse_parameters(parameters) {
            Err(error @ TargetError::TooMany { .. }) => {
                decode(path)?;
                unreadable = Some(error);
                Vec::new()
            }
            parameters => parameters?,
        };
        let query = parse_query(query.unwrap_or_default()).unwrap_or_else(|error| {
            unreadable = Some(error);
            Vec::new()
        });
        // Without anything to decode, only slashes after the noun that start no parameter are lost.
        let same = raw.bytes().all(is_plain) && (!parameters.is_empty() || raw == noun);
        let raw = (!same).then(|| raw.to_owned());
        Ok(Self { raw, noun, parameters, query, unreadable, prefix_stripped: false })
    }

    /// Fails if there are no [`Target::parameters`] or no [`Target::query`] although they were sent:
    /// there are too many, or the query is not UTF-8. The node answers such an event with 400, and
    /// only a handler that [passes it on](crate::handler::Handler::passes_on) receives it.
    pub fn check(&self) -> Result<(), TargetError> {
        self.unreadable.map_or(Ok(()), Err)
    }

    /// Parses a noun as the original sends it: decoded as a whole, and without a query.
    pub fn from_decoded(noun: &str) -> Result<Self, TargetError> {
        limit("target bytes", noun.len(), MAX_TARGET)?;
        let (noun, parameters) = split_parameters(noun);
        limit("parameters", count_parameters(parameters), MAX_PIECES)?;
        Ok(Self {
            raw: None,
            noun: noun.to_owned(),
            parameters: parameters
                .into_iter()
                .flat_map(|p| p.split('/'))
                .map(str::to_owned)
                .collect(),
            query: Vec::new(),
            unreadable: None,
            prefix_stripped: false,
        })
    }

    /// The memory that it takes, in bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        let parameters = self.parameters.iter().map(|text| text_memory(text));
        let query = self.query.iter().map(|(name, value)| text_memory(name) + text_memory(value));
        self.noun.len()
            + self.raw.as_ref().map_or(0, String::len)
            + parameters.sum::<usize>()
            + query.sum::<usize>()
    }

    /// The noun, decoded: `time/utc`.
    pub fn noun(&self) -> &str {
        &self.noun
    }

    /// What follows the double slash, split at single ones, each decoded.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// The fields of the query in order, decoded; a name may occur more than once.
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// The value of the first query field with this name.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The noun's first segment, decoded. An encoded slash is inside it.
    pub fn first_segment(&self) -> Cow<'_, str> {
        match &self.raw {
            Some(_) => percent_decode_str(self.raw_segment()).decode_utf8_lossy(),
            None => Cow::Borrowed(self.raw_segment()),
        }
    }

    /// The target without the noun's first segment and the slash after it. If there was no other
    /// segment the noun is empty, and the raw form begins with the double slash before the
    /// parameters.
    pub fn without_first_segment(&self) -> Self {
        let noun = self.noun.get(self.first_segment().len()..).unwrap_or_default();
        let mut target = Self {
            raw: None,
            noun: noun.strip_prefix('/').unwrap_or(noun).to_owned(),
            parameters: self.parameters.clone(),
            query: self.query.clone(),
            unreadable: self.unreadable,
            prefix_stripped: true,
        };
        if let Some(raw) = &self.raw {
            let rest = &raw[self.raw_segment().len()..];
            let slashes =
                if rest.starts_with("//") { 0 } else { usize::from(rest.starts_with('/')) };
            let raw = &rest[slashes..];
            let is_needed =
                self.unreadable.is_some() || raw != target.decoded() || !raw.bytes().all(is_plain);
            target.raw = is_needed.then(|| raw.to_owned());
        }
        target
    }

    /// The first segment as sent.
    fn raw_segment(&self) -> &str {
        let segment = match &self.raw {
            Some(raw) => raw.split(['/', '?']).next(),
            // Decoded already, and without a query.
            None => self.noun.split('/').next(),
        };
        segment.unwrap_or_default()
    }

    /// The form of the original: noun and parameters decoded as one string, no query.
    pub fn decoded(&self) -> Cow<'_, str> {
        if let (Some(_), Some(raw)) = (self.unreadable, &self.raw) {
            let path = raw.split('?').next().unwrap_or_default();
            return percent_decode_str(path).decode_utf8_lossy();
        }
        if self.parameters.is_empty() {
            return Cow::Borrowed(&self.noun);
        }
        Cow::Owned(format!("{}//{}", self.noun, self.parameters.join("/")))
    }

    /// The path and query of a request for it (RFC 9112, section 3.2.1): a slash, and the target as
    /// the caller sent it. If that is not known, as from an original peer, it is encoded as needed.
    pub fn as_path(&self) -> String {
        let sent = match &self.raw {
            Some(raw) => Cow::Borrowed(raw.as_str()),
            None => Cow::Owned(utf8_percent_encode(&self.decoded(), ENCODED).to_string()),
        };
        let slash = if self.prefix_stripped && sent.starts_with("//") { "" } else { "/" };
        format!("{slash}{sent}")
    }

    /// The target as the caller sent it, if it differs from [`Target::decoded`] or has a character
    /// that must be encoded in a path.
    pub fn raw(&self) -> Option<&str> {
        self.raw.as_deref()
    }
}

/// What must be encoded in a path: all but `pchar` and the slash (RFC 3986, section 3.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// Whether this byte stands for itself in any path.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'/'
        )
}

/// For log lines: the noun, with control characters escaped. Parameters and query are the caller's
/// data and are never logged.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.noun.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

/// Noun and parameters; nothing after the double slash means no parameter.
fn split_parameters(path: &str) -> (&str, Option<&str>) {
    match path.split_once("//") {
        Some((noun, "")) => (noun, None),
        Some((noun, parameters)) => (noun, Some(parameters)),
        None => (path, None),
    }
}

fn count_parameters(parameters: Option<&str>) -> usize {
    parameters.map_or(0, |parameters| parameters.split('/').count())
}

fn parse_parameters(parameters: Option<&str>) -> Result<Vec<String>, TargetError> {
    limit("parameters", count_parameters(parameters), MAX_PIECES)?;
    parameters.into_iter().flat_map(|parameters| parameters.split('/')).map(decode).collect()
}

/// `a=b&c` by the rules of HTML forms: a plus sign is a space.
fn parse_query(query: &str) -> Result<Vec<(String, String)>, TargetError> {
    let fields = || query.split('&').filter(|field| !field.is_empty());
    limit("query fields", fields().count(), MAX_PIECES)?;
    let form = |text: &str| decode(&text.replace('+', " ")).map_err(|_| TargetError::QueryNotUtf8);
    fields()
        .map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            Ok((form(name)?, form(value)?))
        })
        .collect()
}

fn decode(piece: &str) -> Result<String, TargetError> {
    let decoded = percent_decode_str(piece).decode_utf8().map_err(|_| TargetError::NotUtf8)?;
    Ok(decoded.into_owned())
}

fn limit(what: &'static str, count: usize, most: usize) -> Result<(), TargetError> {
    if count > most { Err(TargetError::TooMany { what, most }) } else { Ok(()) }
}

/// Why a target cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// The path is not UTF-8 once decoded.
    #[error("the path is not UTF-8 once decoded")]
    NotUtf8,
    /// The query is not UTF-8 once decoded.
    #[error("the query is not UTF-8 once decoded")]
    QueryNotUtf8,
    /// More of something than the limit.
    #[error("more than {most} {what}")]
    TooMany {
        /// What there was too much of.
        what: &'static str,
        /// The limit.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Target {
        Target::parse(raw).unwrap()
    }

    #[test]
    fn the_documents_example_has_two_parameters() {
        let target = parse("cat//hello%20/world");
        assert_eq!(target.noun(), "cat");
        assert_eq!(target.parameters(), ["hello ", "world"]);
        assert_eq!(target.decoded(), "cat//hello /world");
        assert_eq!(target.raw(), Some("cat//hello%20/world"));
        assert_eq!(parse("cat//a/b").raw(), None, "the decoded form says it all");
    }

    #[test]
    fn an_encoded_slash_stays_inside_its_parameter() {
        let target = parse("cat//a%2Fb/c");
        assert_eq!(target.parameters(), ["a/b", "c"]);
        assert_eq!(target.raw(), Some("cat//a%2Fb/c"));
    }

    #[test]
    fn pieces_are_decoded_once() {
        assert_eq!(parse("cat//%2541").parameters(), ["%41"]);
    }

    #[test]
    fn query_fields_come_by_name_and_in_order() {
        let target = parse("find?name=a+b&name=%26&flag&=x&&");
        assert_eq!(target.query_value("name"), Some("a b"));
        assert_eq!(target.query().len(), 4);
        assert_eq!(target.query()[1], ("name".into(), "&".into()));
        assert_eq!(target.query_value("flag"), Some(""));
        assert_eq!(target.raw(), Some("find?name=a+b&name=%26&flag&=x&&"));
    }

    #[test]
    fn empty_parameters_are_kept_only_between_others() {
        assert!(parse("cat//").parameters().is_empty());
        assert_eq!(parse("args//a//b").parameters(), ["a", "", "b"]);
        assert_eq!(parse("cat//").raw(), Some("cat//"), "the decoded form lacks the slashes");
    }

    #[test]
    fn a_segment_is_taken_off_every_form() {
        for (raw, segment, noun, sent) in [
            ("api/v1/x", "api", "v1/x", None),
            ("api", "api", "", None),
            ("api/", "api", "", None),
            ("api/?a=/b", "api", "", Some("?a=/b")),
            ("api?a", "api", "", Some("?a")),
            ("api//x?a", "api", "", Some("//x?a")),
            ("api//", "api", "", Some("//")),
            ("api/%2Fx", "api", "/x", Some("%2Fx")),
            ("a%2Fb/c%20d//e%2Ff", "a/b", "c d", Some("c%20d//e%2Ff")),
            ("%C3%A4/x", "\u{e4}", "x", None),
            ("x/../y", "x", "../y", None),
        ] {
            let target = parse(raw);
            assert_eq!(target.first_segment(), segment, "{raw}");
            let below = target.without_first_segment();
            assert_eq!((below.noun(), below.raw()), (noun, sent), "{raw}");
            assert_eq!(below.parameters(), target.parameters());
            assert_eq!(below.query(), target.query());
        }
        let decoded = Target::from_decoded("api/50%25//x").unwrap();
        assert_eq!(decoded.without_first_segment().decoded(), "50%25//x");
        let decoded = Target::from_decoded("50%25?/x").unwrap();
        assert_eq!(decoded.first_segment(), "50%25?");
        assert_eq!(decoded.without_first_segment().decoded(), "x");
    }

    #[test]
    fn a_noun_sent_decoded_is_not_decoded_again() {
        let target = Target::from_decoded("cat//50%25/a?b").unwrap();
        assert_eq!(target.parameters(), ["50%25", "a?b"]);
    }

    #[test]
    fn the_target_as_sent_can_always_be_recovered() {
        let as_sent = ["a//", "//", "?q", "a%zz", "a%2e", "a|b", "a\\b", "a b", "\"", "a?"];
        for raw in as_sent {
            assert_eq!(parse(raw).raw(), Some(raw));
        }
        let decoded =
            ["", "/", "a", "a/", "a/b", "//a", "//a/", "a///", "a///b", "a//b//", "a;b=c,d@e:f"];
        for raw in decoded {
            let target = parse(raw);
            assert_eq!((target.raw(), &*target.decoded()), (None, raw));
            assert_eq!(Target::from_decoded(raw).unwrap(), target, "{raw}");
        }
    }

    #[test]
    fn what_a_path_has_only_encoded_is_told_apart_in_one_way() {
        for byte in 0..=127u8 {
            let text = char::from(byte).to_string();
            let encoded = utf8_percent_encode(&text, ENCODED).to_string();
            assert_eq!(encoded == text, is_plain(byte), "{byte}");
        }
    }

    #[test]
    fn a_path_is_as_it_was_sent() {
        for raw in
            ["", "/", "//", "///", "a", "a//", "/a", "//a", "?q=%20", "a%zz|%2f?", "a//b///c/"]
        {
            assert_eq!(parse(raw).as_path(), format!("/{raw}"));
            for behind in ["/", "?"].into_iter().filter(|behind| raw.starts_with(behind)) {
                let below = parse(&format!("api{raw}")).without_first_segment();
                let expected = if behind == "?" { format!("/{raw}") } else { raw.to_owned() };
                assert_eq!(below.as_path(), expected);
            }
            let below = parse(&format!("api/{raw}")).without_first_segment();
            assert_eq!(below.as_path(), format!("/{raw}"));
        }
        let decoded = Target::from_decoded("a b/50%25//c?d#e\r\n\u{e4}").unwrap();
        assert_eq!(decoded.as_path(), "/a%20b/50%2525//c%3Fd%23e%0D%0A%C3%A4");
        assert_eq!(parse("api").without_first_segment().as_path(), "/");
    }

    #[test]
    fn the_noun_may_be_empty() {
        for raw in ["", "//", "?a=b"] {
            assert_eq!((parse(raw).noun(), parse(raw).parameters().len()), ("", 0), "{raw}");
        }
        assert_eq!(parse("//a/b").parameters(), ["a", "b"]);
        assert_eq!(Target::from_decoded("").unwrap().noun(), "");
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let many = format!("cat//{}%ff", "/".repeat(300));
        for path in ["%ff", "cat//%ff", "cat//%C3/%BC", "a%fc?b", &many] {
            assert_eq!(Target::parse(path), Err(TargetError::NotUtf8), "{path}");
        }
        let long = "x".repeat(MAX_TARGET + 1);
        assert!(matches!(Target::parse(&long), Err(TargetError::TooMany { .. })));
    }

    #[test]
    fn what_no_handler_reads_is_kept_as_it_was_sent() {
        let fields = format!("a/x?{}", "b=c&".repeat(300));
        let parameters = format!("a/x//{}%20", "b/".repeat(300));
        let slashes = format!("a/x//{}", "/".repeat(300));
        for raw in ["a/x?b=%FC", "a/x?%FC&c", &fields, &parameters, &slashes] {
            let target = parse(raw);
            assert_eq!((target.noun(), target.raw()), ("a/x", Some(raw)));
            assert!(target.check().is_err(), "{raw}");
            assert!(target.query().is_empty(), "half a query is none");
            assert_eq!(target.as_path(), format!("/{raw}"));
            let below = target.without_first_segment();
            assert_eq!((below.noun(), below.raw()), ("x", raw.strip_prefix("a/")));
            assert_eq!(below.check(), target.check());
        }
        assert_eq!(parse(&parameters).decoded(), format!("a/x//{} ", "b/".repeat(300)));
        assert_eq!(parse("a//b?%FC").decoded(), "a//b");
        assert_eq!(parse("a?%FC").check().unwrap_err(), TargetError::QueryNotUtf8);
        let at_most = format!("a?{}", "b&".repeat(MAX_PIECES));
        assert_eq!((parse(&at_most).check(), parse(&at_most).query().len()), (Ok(()), MAX_PIECES));
    }

    #[test]
    fn log_lines_stay_single_and_show_no_payload() {
        assert_eq!(parse("c%0Aat//secret?key=secret").to_string(), "c\\nat");
    }
}
