//! Why a local service did not reply, for the caller and for the log.

use std::io;
use std::time::Duration;

use serde_json::json;

use crate::event::{CODE_EXCEPTION, Reply, errors};

/// Why there is no reply from the service. The service may have handled the request only after
/// [`ServiceFault::BadAnswer`] and [`ServiceFault::Timeout`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServiceFault {
    /// The path would leave the prefix, or cannot be part of a request.
    BadPath(&'static str),
    /// The request's body was cut short.
    Body(String),
    /// Connecting failed.
    Unreachable(String),
    /// It did not do this within the time limit.
    Timeout(&'static str, Duration),
    /// The connection closed before the first byte of a reply.
    Silent(String),
    /// The reply is invalid or incomplete.
    BadAnswer(String),
    /// The thread to send the body could not be started.
    NoThread(String),
    /// The reply is no longer awaited.
    Cancelled,
}

impl ServiceFault {
    /// Describes a connection that closed or failed before the reply was complete.
    pub fn ended(result: io::Result<()>) -> String {
        match result {
            Ok(()) => "it closed the connection".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// The error message; `service` names the service.
    pub fn message(&self, service: &str) -> String {
        match self {
            Self::BadPath(why) => format!("the path {why}"),
            Self::Body(why) => format!("the request's body was not complete: {why}"),
            Self::Unreachable(why) => format!("{service} cannot be reached: {why}"),
            Self::Timeout(what, limit) => {
                format!("{service} did not {what} within {} s", limit.as_secs_f64())
            }
            Self::Silent(why) => {
                format!("{service} sent no reply: {why}; whether it handled the request is unknown")
            }
            Self::BadAnswer(why) => format!("{service} sent a reply that cannot be used: {why}"),
            Self::NoThread(why) => format!("too much is going on: {why}"),
            Self::Cancelled => "the caller does not wait any longer".to_owned(),
        }
    }

    /// The error reply: JSON with `error` and `message`, plus the fields of an exception if the
    /// service failed.
    pub fn reply(&self, service: &str) -> Reply {
        let message = self.message(service);
        let error = match self {
            Self::BadPath(_) => return errors::BAD_PATH.reply(&message),
            Self::Body(_) => return errors::BODY_INCOMPLETE.reply(&message),
            Self::Unreachable(_) => errors::UNREACHABLE,
            Self::Silent(_) | Self::BadAnswer(_) => errors::BAD_ANSWER,
            Self::NoThread(_) => errors::FULL,
            Self::Timeout(..) | Self::Cancelled => errors::SERVICE_TIMEOUT,
        };
        Reply::json(&json!({
            "error": error.name,
            "message": message,
            "exception": { "message": message, "class": "Service", "traceback": "" },
        }))
        .with_code(CODE_EXCEPTION)
        .with_status(error.status)
    }
}
