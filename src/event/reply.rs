//! The response to an event.

use serde_json::Value;

use crate::event::errors::{self, AnswerError};
use crate::event::{Body, Verb};

/// Success.
pub const CODE_FINE: u32 = 0;
/// The handler failed; the body says how.
pub const CODE_EXCEPTION: u32 = 251;
/// The rules on the handling side refuse it.
pub const CODE_REFUSED: u32 = 253;
/// There is no handler for this verb and noun.
pub const CODE_UNHANDLED: u32 = 255;

/// Media type of JSON replies.
const JSON: &str = "application/json";

/// The response to one event. A JSON value, a string and `()` convert into one.
///
/// ```
/// use restpipe::Reply;
/// use serde_json::json;
///
/// let reply = Reply::from(json!({ "id": 7 })).with_status(201).with_header("Location", "/note/7");
/// assert_eq!((reply.code, reply.media_type.as_str()), (0, "application/json"));
/// assert_eq!(reply.body.whole(), Some(&br#"{"id": 7}"#[..]));
/// ```
#[derive(Debug, PartialEq)]
pub struct Reply {
    /// 0 success, 251 the handler failed, 253 refused, 255 no handler, others are the handler's
    /// own. Sent to the caller as `X-Event-Return-Code`.
    pub code: u32,
    /// The body's media type.
    pub media_type: String,
    /// The body, any bytes.
    pub body: Body,
    /// The HTTP status; if absent, it follows from the code.
    pub status: Option<u16>,
    /// Further headers of the HTTP response, whose values are text as [`header`](super::header)
    /// says. Those that cannot be sent are dropped, with a warning in the log.
    pub headers: Vec<(String, String)>,
}

impl Reply {
    /// A reply with code 0 and this body.
    pub fn new(media_type: impl Into<String>, body: impl Into<Body>) -> Self {
        Self {
            code: CODE_FINE,
            media_type: media_type.into(),
            body: body.into(),
            status: None,
            headers: Vec::new(),
        }
    }

    /// A reply with code 0 and this value as JSON, in the original's form: separators `", "` and
    /// `": "`, ASCII only.
    pub fn json(value: &Value) -> Self {
        Self::new(JSON, Body::json(value))
    }

    /// Sets the return code.
    pub fn with_code(mut self, code: u32) -> Self {
        self.code = code;
        self
    }

    /// Sets the HTTP status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// There is no handler for the noun.
    pub fn unhandled() -> Self {
        Self::new("text/plain", Body::empty()).with_code(CODE_UNHANDLED)
    }

    /// There is a handler for the noun, but only with these verbs.
    pub fn wrong_verb(allowed: &[Verb]) -> Self {
        let allowed: Vec<String> =
            allowed.iter().map(|verb| verb.as_str().to_ascii_uppercase()).collect();
        Self::unhandled()
            .with_status(errors::WRONG_VERB.status)
            .with_header("Allow", allowed.join(", "))
    }

    /// The handler failed.
    pub fn exception(class: &str, message: &str, traceback: &str) -> Self {
        Self::json(&serde_json::json!({
            "error": errors::EXCEPTION.name,
            "message": message,
            "exception": { "message": message, "class": class, "traceback": traceback },
        }))
        .with_code(CODE_EXCEPTION)
    }

    /// The handler refuses, with this HTTP status, which is also the return code: `error` is for
    /// programs, `message` for people.
    pub fn error(status: u16, error: &str, message: &str) -> Self {
        Self::json(&serde_json::json!({ "error": error, "message": message }))
            .with_code(status.into())
            .with_status(status)
    }

    /// The peer may not request this. It was not handled.
    pub fn refused(message: &str) -> Self {
        let mut reply =
            Self::json(&serde_json::json!({ "error": errors::REFUSED.name, "message": message }))
                .with_code(CODE_REFUSED);
        reply.status = Some(errors::REFUSED.status);
        reply
    }

    /// The node cannot take the event now. It was not handled.
    pub fn busy(message: &str) -> Self {
        Self::exception("Busy", message, "")
            .with_status(errors::BUSY.status)
            .with_header("Retry-After", "1")
    }

    /// Whether it says that the event was not handled; see [`Reply::busy`].
    pub(crate) fn is_busy(&self) -> bool {
        self.code == CODE_EXCEPTION && self.status == Some(errors::BUSY.status)
    }

    /// The event was handled, but its reply cannot be sent.
    pub(crate) fn lost(message: &str) -> Self {
        Self::exception("ReplyLost", message, "")
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self::json(&value)
    }
}

/// A text reply.
impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::new("text/plain; charset=utf-8", text)
    }
}

/// A text reply.
impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// An empty reply.
impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::new("", Body::empty())
    }
}

impl AnswerError {
    /// A handler's reply with this error; the return code is the status. `message` is for people.
    pub(crate) fn reply(self, message: &str) -> Reply {
        Reply::error(self.status, self.name, message)
    }
}
