//! The types that both ends share: an [`Event`] is a request, a [`Reply`] its response.

use std::io;

mod body;
pub(crate) mod dots;
pub mod errors;
pub mod header;
pub mod inspect;
mod json;
pub mod peer;
pub mod pipe;
mod remote;
mod reply;
mod request_id;
mod target;

pub use body::{Body, Sink, Source};
pub use remote::{RemoteFailure, raise_for_exception};
pub use reply::{CODE_EXCEPTION, CODE_FINE, CODE_REFUSED, CODE_UNHANDLED, Reply};
pub use request_id::RequestId;
pub use target::{Target, TargetError};

/// One request as it crosses the pipe.
///
/// ```
/// use restpipe::{Body, Event, Verb};
///
/// // What `curl -X PUT .../server/notes/daily//a%2Fb/c?draft=1` makes of it.
/// let mut event = Event::new(Verb::Put, "notes/daily//a%2Fb/c?draft=1")?;
/// event.media_type = "text/plain".to_owned();
/// event.body = Body::from("remember");
/// assert_eq!(event.method_name(), "put_notes_daily");
/// assert_eq!(event.target.parameters(), ["a/b", "c"]);
/// assert_eq!(event.target.query(), [("draft".to_owned(), "1".to_owned())]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, PartialEq)]
pub struct Event {
    /// The HTTP method.
    pub verb: Verb,
    /// Noun, parameters and query.
    pub target: Target,
    /// The body's media type; empty if none was given.
    pub media_type: String,
    /// The caller's headers without hop-by-hop ones, whose values are text as [`header`] says. An
    /// original peer sends none.
    pub headers: Vec<(String, String)>,
    /// The body, any bytes; empty if there is none.
    pub body: Body,
    /// Whether the caller wants the response's head only: HTTP's `HEAD`, sent as [`Verb::Get`]. A
    /// body in the reply is dropped; a large one need not be opened, see [`Body::left_out`].
    pub head_only: bool,
    /// Its id in the logs of both sides. An original peer sends none; this side then assigns one.
    pub request_id: RequestId,
}

/// Maximum length of a media type, in bytes. Type and subtype have at most 127 each (RFC 6838, section
/// 4.2); the rest is for parameters.
pub(crate) const MAX_MEDIA_TYPE: usize = 1024;

/// Most bytes of JSON that [`Event::json`] reads.
const MAX_JSON: usize = 16 * 1024 * 1024;

impl Event {
    /// An event without a body, for the given path after `/server/` or `/client/NAME/`: noun, `//`
    /// and parameters, `?` and query, percent-encoded where needed.
    pub fn new(verb: Verb, target: &str) -> Result<Self, TargetError> {
        Ok(Self {
            verb,
            target: Target::parse(target)?,
            media_type: String::new(),
            headers: Vec::new(),
            body: Body::empty(),
            head_only: false,
            request_id: RequestId::fresh(),
        })
    }

    /// The memory that it takes besides a body that is a stream, in bytes, roughly.
    pub(crate) fn memory(&self) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| target::text_memory(name) + target::text_memory(value));
        let body = self.body.whole().map_or(0, <[u8]>::len);
        self.target.memory() + self.media_type.len() + headers.sum::<usize>() + body
    }

    /// Reads the body as JSON, of at most 16 MiB.
    pub fn json(&mut self) -> io::Result<serde_json::Value> {
        Ok(serde_json::from_slice(self.body.gather(MAX_JSON)?)?)
    }

    /// The value of the caller's header with this name, ignoring case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The name of the method that handles this event: verb and noun joined by underscores, so
    /// `GET time/utc` is `get_time_utc`.
    pub fn method_name(&self) -> String {
        self.method_name_for(self.verb)
    }

    /// As [`Event::method_name`], for another verb.
    pub fn method_name_for(&self, verb: Verb) -> String {
        let noun = self.target.noun();
        let mut name = String::with_capacity(verb.as_str().len() + 1 + noun.len());
        name.push_str(verb.as_str());
        name.push('_');
        name.extend(noun.chars().map(|c| if c == '/' { '_' } else { c }));
        name
    }
}

/// The HTTP methods that cross the pipe. `HEAD` is [`Event::head_only`] with `Get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read.
    Get,
    /// Do something; besides `Patch` the only one that is never retried.
    Post,
    /// Store under the noun.
    Put,
    /// Remove.
    Delete,
    /// Change in part.
    Patch,
    /// Ask what is possible.
    Options,
    /// Carry a connection to the target named by the noun: the event's body is what the caller
    /// sends, the reply's what it receives, and either may end first. Not a method of the local
    /// port.
    Connect,
}

impl Verb {
    /// All of them, in the order in which an `Allow` header lists them.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Post, Self::Put, Self::Delete, Self::Patch, Self::Options, Self::Connect];

    /// As on the wire: lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Patch => "patch",
            Self::Options => "options",
            Self::Connect => "connect",
        }
    }

    /// The verb with this name, ignoring case, as peers send it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether it is idempotent (RFC 9110, section 9.2.2), so that it may be retried if its outcome
    /// is unknown.
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Put | Self::Delete | Self::Options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_join_verb_and_noun() {
        let event = Event::new(Verb::Get, "time/utc//a/b?c=d").unwrap();
        assert_eq!(event.method_name(), "get_time_utc");
        assert_eq!(event.method_name_for(Verb::Delete), "delete_time_utc");
    }

    #[test]
    fn verbs_are_read_in_any_case_and_only_in_full() {
        assert_eq!(Verb::parse("GET"), Some(Verb::Get));
        assert_eq!(Verb::parse("patch"), Some(Verb::Patch));
        assert_eq!(Verb::parse("pat"), None);
        assert_eq!(Verb::parse("head"), None);
    }
}
