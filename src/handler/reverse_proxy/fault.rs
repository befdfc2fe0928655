//! Why a local service has not answered, for the caller and for the log.

use std::io;
use std::time::Duration;

use serde_json::json;

use crate::event::{CODE_EXCEPTION, Reply, errors};

/// Why there is no reply of the service. Only after [`ServiceFault::BadAnswer`] and [`ServiceFault::Timeout`] may it
/// have handled the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServiceFault {
    /// The path would leave the prefix, or cannot stand in a request.
    BadPath(&'static str),
    /// The request's body did not come whole.
    Body(String),
    /// No connection could be made.
    Unreachable(String),
    /// It took too long, and did not do this.
    Timeout(&'static str, Duration),
    /// The connection ended before a byte of a reply came.
    Silent(String),
    /// What came is no reply, or not all of it.
    BadAnswer(String),
    /// There is no thread that could send the body.
    NoThread(String),
    /// Nobody waits for the reply any longer.
    Cancelled,
}

impl ServiceFault {
    /// The connection ended, or failed, before the reply was whole.
    pub fn ended(result: io::Result<()>) -> String {
        match result {
            Ok(()) => "it closed the connection".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// What happened; `service` names it.
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

    /// The reply that reports it: JSON of `error` and `message`, and for what is a failure of the service
    /// also what every exception has.
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
