//! Failures on the other side, as an error on this one.

use std::fmt;

use serde_json::Value;

use crate::event::{CODE_EXCEPTION, CODE_FINE, CODE_REFUSED, CODE_UNHANDLED, Reply};

/// The header with a reply's code.
const CODE_HEADER: &str = "X-Event-Return-Code";
/// Most bytes that are read of a failure's body, if it is a stream.
const MAX_BODY: usize = 1024 * 1024;
/// Most characters of a non-JSON body in a message.
const MAX_MESSAGE: usize = 1000;

/// Why a request failed although there was a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteFailure {
    /// The handler on the other side failed.
    Exception {
        /// The reply's code: 251, or the handler's own.
        code: u32,
        /// The type of the error; empty if unknown.
        class: String,
        /// What happened.
        message: String,
        /// The traceback, from a node with `DEBUG=1`; else empty.
        traceback: String,
    },
    /// It was not handled: one of the two nodes, or the rules of the other, refused it.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reply's code, 253 or 255; absent if the local node refused it.
        code: Option<u32>,
        /// The name of the error, such as `away` or `unhandled`.
        error: String,
        /// The message for people.
        message: String,
    },
}

impl fmt::Display for RemoteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception { code, class, message, .. } if class.is_empty() => {
                write!(f, "code {code}: {}", message.escape_debug())
            }
            Self::Exception { class, message, .. } => {
                write!(f, "{}: {}", class.escape_debug(), message.escape_debug())
            }
            Self::Refused { status, error, message, .. } => {
                write!(f, "{} ({status}): {}", error.escape_debug(), message.escape_debug())
            }
        }
    }
}

impl std::error::Error for RemoteFailure {}

/// Converts an HTTP response of a node's local port into its body, or into a failure of a node or
/// the handler. `headers` are those of the response, in any case and order; responses of an
/// original node, whose status is always 200, are supported too.
///
/// A response is a failure if its code is 251, 253 or 255, or its status 400 or above. A handler's
/// own code alone is not a failure.
///
/// ```
/// use restpipe::{RemoteFailure, raise_for_exception};
///
/// let fine = raise_for_exception(200, [("X-Event-Return-Code", "0")], b"42".to_vec());
/// assert_eq!(fine, Ok(b"42".to_vec()));
///
/// let body = r#"{"exception": {"class": "Closed", "message": "no luck", "traceback": ""}}"#;
/// let failed = raise_for_exception(500, [("x-event-return-code", "251")], body.into());
/// let Err(RemoteFailure::Exception { class, message, code, .. }) = failed else { panic!() };
/// assert_eq!((class.as_str(), message.as_str(), code), ("Closed", "no luck", 251));
///
/// let body = r#"{"error": "away", "message": "web1 is not connected (waited 20 s)"}"#;
/// let away = raise_for_exception(503, [("Content-Type", "application/json")], body.into());
/// assert_eq!(away.unwrap_err().to_string(), "away (503): web1 is not connected (waited 20 s)");
/// ```
pub fn raise_for_exception<N, V>(
    status: u16,
    headers: impl IntoIterator<Item = (N, V)>,
    body: Vec<u8>,
) -> Result<Vec<u8>, RemoteFailure>
where
    N: AsRef<str>,
    V: AsRef<str>,
{
    let mut headers = headers.into_iter();
    let code = headers
        .find(|(name, _)| name.as_ref().eq_ignore_ascii_case(CODE_HEADER))
        .and_then(|(_, value)| value.as_ref().trim().parse().ok());
    if is_fine(Some(status), code) { Ok(body) } else { Err(failure(status, code, &body)) }
}

impl Reply {
    /// This reply, or the failure on the other side: [`raise_for_exception`] for a program that
    /// uses the library.
    ///
    /// ```
    /// use restpipe::{RemoteFailure, Reply};
    ///
    /// assert!(Reply::from("fine").raise_for_exception().is_ok());
    /// let failed = Reply::exception("ParseIntError", "invalid digit found in string", "");
    /// let failure = failed.raise_for_exception().unwrap_err();
    /// assert_eq!(failure.to_string(), "ParseIntError: invalid digit found in string");
    /// ```
    pub fn raise_for_exception(mut self) -> Result<Self, RemoteFailure> {
        if is_fine(self.status, Some(self.code)) {
            return Ok(self);
        }
        // A truncated or oversized body is of no use.
        let body = self.body.gather(MAX_BODY).unwrap_or_default();
        let status = self.status.unwrap_or(match self.code {
            CODE_UNHANDLED => 404,
            CODE_REFUSED => 403,
            _ => 500,
        });
        Err(failure(status, Some(self.code), body))
    }
}

fn is_fine(status: Option<u16>, code: Option<u32>) -> bool {
    let is_bad = matches!(code, Some(CODE_EXCEPTION | CODE_REFUSED | CODE_UNHANDLED));
    !is_bad && status.is_none_or(|status| status < 400)
}

fn failure(status: u16, code: Option<u32>, body: &[u8]) -> RemoteFailure {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let message = match &json["message"] {
        Value::String(message) => message.clone(),
        _ => String::from_utf8_lossy(body).chars().take(MAX_MESSAGE).collect(),
    };
    let exception = &json["exception"];
    match code {
        None | Some(CODE_REFUSED | CODE_UNHANDLED) => {
            let error = match (&json["error"], code) {
                (Value::String(error), _) => error.clone(),
                (_, Some(CODE_UNHANDLED)) => "unhandled".to_owned(),
                (_, Some(CODE_REFUSED)) => "refused".to_owned(),
                _ => "http".to_owned(),
            };
            RemoteFailure::Refused { status, code, error, message }
        }
        Some(code) if exception.is_object() => RemoteFailure::Exception {
            code,
            class: text(&exception["class"]),
            message: text(&exception["message"]),
            traceback: text(&exception["traceback"]),
        },
        // A handler's code with an HTTP error: the response of a local service.
        Some(code) => {
            let class = if code == CODE_FINE { format!("HTTP {status}") } else { String::new() };
            RemoteFailure::Exception { code, class, message, traceback: String::new() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Verb};

    fn raised(status: u16, code: Option<&str>, body: &str) -> Result<Vec<u8>, RemoteFailure> {
        raise_for_exception(status, code.map(|code| (CODE_HEADER, code)), body.into())
    }

    #[test]
    fn status_and_code_decide() {
        for (status, code, is_fine) in [
            (200, Some("0"), true),
            (206, Some("7"), true),
            (304, Some("0"), true),
            (200, None, true),
            (200, Some("251"), false),
            (200, Some("255"), false),
            (403, Some("253"), false),
            (404, Some("0"), false),
            (503, None, false),
            (500, Some("nonsense"), false),
        ] {
            assert_eq!(raised(status, code, "x").is_ok(), is_fine, "{status} {code:?}");
        }
    }

    #[test]
    fn an_original_failure_is_understood() {
        let body = r#"{"exception": {"message": "m", "traceback": "t", "class": "c"}}"#;
        assert_eq!(
            raised(200, Some("251"), body),
            Err(RemoteFailure::Exception {
                code: 251,
                class: "c".to_owned(),
                message: "m".to_owned(),
                traceback: "t".to_owned(),
            })
        );
        let unhandled = raised(200, Some("255"), "").unwrap_err();
        assert_eq!(unhandled.to_string(), "unhandled (200): ");
    }

    #[test]
    fn any_body_makes_a_failure_of_one_line() {
        for body in ["", "\0\n", "[]", "{", "{\"exception\": 1}", "{\"exception\": {\"class\": 1}}"]
        {
            for code in [None, Some("0"), Some("251"), Some("4294967295")] {
                let shown = raised(500, code, body).unwrap_err().to_string();
                assert!(!shown.contains(char::is_control), "{shown:?}");
            }
        }
        let failed = raised(500, Some("1"), "it broke").unwrap_err();
        assert_eq!(failed.to_string(), "code 1: it broke");
    }

    #[test]
    fn replies_are_judged_alike() {
        let raise = |reply: Reply| reply.raise_for_exception();
        assert!(raise(Reply::from("x").with_code(7)).is_ok());
        let refused = raise(Reply::refused("not you")).unwrap_err();
        assert_eq!(refused.to_string(), "refused (403): not you");
        let verb = raise(Reply::wrong_verb(&[Verb::Get])).unwrap_err();
        assert!(matches!(verb, RemoteFailure::Refused { status: 405, code: Some(255), .. }));
        let stream = Body::stream(&b"why it broke"[..], None);
        let streamed = raise(Reply::new("", stream).with_status(502)).unwrap_err();
        assert_eq!(streamed.to_string(), "HTTP 502: why it broke");
    }
}
