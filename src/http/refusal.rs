//! Error responses that this port generates itself: a status and a JSON body with `error` and
//! `message`.
//!
//! In scope: the format of refusals, and the mapping from failed pipe requests. Not in scope: when
//! a request is refused.

use serde_json::{Value, json};

use crate::event::errors::{self, AnswerError};
use crate::event::pipe::RequestError;
use crate::http1::chunked::ChunkError;
use crate::http1::framing::FramingError;
use crate::http1::head::InvalidHead;
use crate::http1::input::BodyError;

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// For programs: the name of one of [`ERRORS`](errors::ERRORS).
    pub error: &'static str,
    /// For people.
    pub message: String,
    /// Additional headers.
    pub headers: Vec<(&'static str, String)>,
    /// The candidate clients, if the name is ambiguous.
    pub names: Vec<String>,
    /// Whether the connection must close because the start of the next request is unknown.
    pub close: bool,
}

impl Refusal {
    /// A refusal that keeps the connection open.
    pub fn new(error: AnswerError, message: impl Into<String>) -> Self {
        Self {
            status: error.status,
            error: error.name,
            message: message.into(),
            headers: Vec::new(),
            names: Vec::new(),
            close: false,
        }
    }

    /// A refusal that closes the connection.
    pub fn closing(error: AnswerError, message: impl Into<String>) -> Self {
        Self { close: true, ..Self::new(error, message) }
    }

    /// A malformed request: 400, and the connection closes.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::closing(errors::BAD_REQUEST, message)
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// `{"error": ..., "message": ...}`, plus `names` if there are any.
    pub fn json(&self) -> Value {
        let mut value = json!({ "error": self.error, "message": self.message });
        if !self.names.is_empty() {
            value["names"] = json!(self.names);
        }
        value
    }
}

/// `Retry-After` in seconds for a disconnected peer.
const RETRY_AWAY: &str = "5";
/// `Retry-After` in seconds when a limit is reached.
const RETRY_FULL: &str = "1";

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        let new = |error| Self::new(error, message.clone());
        match error {
            RequestError::UnknownPeer(_) => new(errors::UNKNOWN_PEER),
            RequestError::Ambiguous(names) => Self { names, ..new(errors::AMBIGUOUS_PEER) },
            RequestError::Away { .. } => {
                new(errors::PEER_AWAY).with_header("Retry-After", RETRY_AWAY)
            }
            RequestError::Full(_) => new(errors::FULL).with_header("Retry-After", RETRY_FULL),
            RequestError::Stopping => {
                Self { close: true, ..new(errors::STOPPING).with_header("Retry-After", RETRY_AWAY) }
            }
            RequestError::NotCarried(_) => new(errors::NOT_CARRIED),
            // Never written: the caller has disconnected.
            RequestError::CallerGone => Self { close: true, ..new(errors::CALLER_GONE) },
            RequestError::Body(_) => Self { close: true, ..new(errors::BODY_INCOMPLETE) },
            RequestError::TooLarge(_) => new(errors::BODY_TOO_LARGE),
            RequestError::NoReply { .. } => new(errors::NO_REPLY),
            RequestError::OutcomeUnknown { .. } => new(errors::OUTCOME_UNKNOWN),
        }
    }
}

/// Each of these closes the connection: the start of the next request is unknown.
impl From<InvalidHead> for Refusal {
    fn from(error: InvalidHead) -> Self {
        let message = error.to_string();
        match error {
            InvalidHead::TooLong(_) => Self::closing(errors::HEAD_TOO_LARGE, message),
            InvalidHead::TooManyFields(_) => Self::closing(errors::TOO_MANY_FIELDS, message),
            InvalidHead::UnsupportedVersion => {
                Self::closing(errors::VERSION_NOT_SUPPORTED, message)
            }
            _ => Self::malformed(message),
        }
    }
}

impl From<FramingError> for Refusal {
    fn from(error: FramingError) -> Self {
        let message = error.to_string();
        match error {
            FramingError::LengthTooLarge => Self::closing(errors::BODY_TOO_LARGE, message),
            FramingError::CodingUnknown => Self::closing(errors::CODING_NOT_IMPLEMENTED, message),
            FramingError::LengthAndCoding
            | FramingError::CodingInHttp10
            | FramingError::LengthNotANumber
            | FramingError::CodingWithoutEnd => Self::malformed(message),
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Coding(error @ ChunkError::TooLong) => {
                Self::closing(errors::TRAILERS_TOO_LARGE, error.to_string())
            }
            BodyError::Coding(error @ ChunkError::Malformed) => Self::malformed(error.to_string()),
            BodyError::Cut(_) => Self::malformed("the body was cut short"),
            BodyError::Io(error) => Self::malformed(format!("the body was cut short: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_failure_of_the_pipe_has_its_status() {
        let peer = || "web7".to_owned();
        let waited = Duration::from_secs(2);
        let cases = [
            (RequestError::UnknownPeer(peer()), 404, None, false),
            (RequestError::Ambiguous(vec![peer()]), 409, None, false),
            (RequestError::Away { peer: peer(), waited }, 503, Some("5"), false),
            (RequestError::Full("too many".into()), 503, Some("1"), false),
            (RequestError::Stopping, 503, Some("5"), true),
            (RequestError::NotCarried("a query".into()), 502, None, false),
            (RequestError::TooLarge("3 bytes".into()), 413, None, false),
            (RequestError::Body("cut".into()), 400, None, true),
            (RequestError::NoReply { peer: peer(), waited }, 504, None, false),
            (
                RequestError::OutcomeUnknown { peer: peer(), reason: "reset".into() },
                502,
                None,
                false,
            ),
        ];
        for (error, status, retry, close) in cases {
            let refusal = Refusal::from(error.clone());
            assert_eq!(refusal.status, status, "{error:?}");
            assert_eq!(refusal.close, close, "{error:?}");
            let found = refusal.headers.iter().find(|(name, _)| *name == "Retry-After");
            assert_eq!(found.map(|(_, value)| value.as_str()), retry, "{error:?}");
            assert_eq!(refusal.message, error.to_string());
        }
    }

    #[test]
    fn an_ambiguous_name_lists_the_clients() {
        let refusal = Refusal::from(RequestError::Ambiguous(vec!["a".into(), "b".into()]));
        assert_eq!(refusal.json()["names"], json!(["a", "b"]));
        assert_eq!(refusal.json()["error"], "ambiguous_peer");
    }
}
