//! The answer to an event.

use serde_json::Value;

use crate::event::Verb;

/// The handler answered and has nothing to add.
pub const CODE_FINE: u32 = 0;
/// The handler failed; the body says how.
pub const CODE_EXCEPTION: u32 = 251;
/// The rules of the handling side do not allow it.
pub const CODE_REFUSED: u32 = 253;
/// There is no handler for this verb and noun.
pub const CODE_UNHANDLED: u32 = 255;

/// Media type of JSON replies.
const JSON: &str = "application/json";

/// The answer to one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0 fine, 251 the handler failed, 253 refused, 255 no handler, others the handler's own. The caller finds
    /// it in `X-Event-Return-Code`.
    pub code: u32,
    /// The body's media type.
    pub media_type: String,
    /// The body, any bytes.
    pub body: Vec<u8>,
    /// The HTTP status; where it is absent it follows from the code.
    pub status: Option<u16>,
    /// Further headers of the HTTP answer. The caller's side drops what is not a clean header.
    pub headers: Vec<(String, String)>,
}

impl Reply {
    /// A fine reply with this body.
    pub fn new(media_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            code: CODE_FINE,
            media_type: media_type.into(),
            body: body.into(),
            status: None,
            headers: Vec::new(),
        }
    }

    /// A fine reply with this value as JSON, in the original's form: `", "` and `": "` between the
    /// parts, and nothing but ASCII.
    pub fn json(value: &Value) -> Self {
        Self::new(JSON, super::json::to_vec(value))
    }

    /// The same reply with another return code.
    pub fn with_code(mut self, code: u32) -> Self {
        self.code = code;
        self
    }

    /// There is no handler for the noun.
    pub fn unhandled() -> Self {
        Self::new("text/plain", Vec::new()).with_code(CODE_UNHANDLED)
    }

    /// There is a handler for the noun, but only with these verbs.
    pub fn wrong_verb(allowed: &[Verb]) -> Self {
        let allowed: Vec<String> =
            allowed.iter().map(|verb| verb.as_str().to_ascii_uppercase()).collect();
        let mut reply = Self::unhandled();
        reply.status = Some(405);
        reply.headers.push(("Allow".to_owned(), allowed.join(", ")));
        reply
    }

    /// The handler failed.
    pub fn exception(class: &str, message: &str, traceback: &str) -> Self {
        Self::json(&serde_json::json!({
            "error": "exception",
            "message": message,
            "exception": { "message": message, "class": class, "traceback": traceback },
        }))
        .with_code(CODE_EXCEPTION)
    }

    /// The asker may not ask this. It was not handled.
    pub fn refused(message: &str) -> Self {
        let mut reply = Self::json(&serde_json::json!({ "error": "refused", "message": message }))
            .with_code(CODE_REFUSED);
        reply.status = Some(403);
        reply
    }

    /// The node cannot take the event now. It was not handled.
    pub fn busy(message: &str) -> Self {
        let mut reply = Self::exception("Busy", message, "");
        reply.status = Some(503);
        reply.headers.push(("Retry-After".to_owned(), "1".to_owned()));
        reply
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
        Self::new("", Vec::new())
    }
}
