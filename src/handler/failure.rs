//! Why a handler has no reply.

use std::error::Error;
use std::panic::Location;

use crate::event::Verb;

/// Why a handler has no reply. Any error converts into one with `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No handler for this noun: 404 and code 255.
    Unhandled,
    /// The noun has handlers, but only for these verbs: 405.
    WrongVerb(Vec<Verb>),
    /// The handler failed: 500 and code 251.
    Exception {
        /// The kind of error.
        class: String,
        /// The description, for the caller.
        message: String,
        /// The location and causes, for debugging; sent only with `DEBUG=1`.
        trace: String,
    },
}

impl Failure {
    /// An exception with this class and message.
    #[track_caller]
    pub fn exception(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Exception {
            class: class.into(),
            message: message.into(),
            trace: format!("at {}", Location::caller()),
        }
    }
}

/// The class is the error's type, the trace its location and chain of causes. ([`Failure`] itself
/// does not implement [`Error`], which makes this implementation possible.)
impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let mut trace = format!("at {}", Location::caller());
        let mut cause = error.source();
        while let Some(error) = cause {
            trace.push_str(&format!("\ncaused by: {error}"));
            cause = error.source();
        }
        let path = std::any::type_name::<E>();
        let class = path.split('<').next().unwrap_or(path).rsplit("::").next().unwrap_or(path);
        Self::Exception { class: class.to_owned(), message: error.to_string(), trace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u32, Failure> {
        Ok(text.parse::<u32>()?)
    }

    #[test]
    fn an_error_keeps_its_type_text_and_place() {
        let Err(Failure::Exception { class, message, trace }) = parse("x") else {
            panic!("parsed an x");
        };
        assert_eq!(class, "ParseIntError");
        assert_eq!(message, "invalid digit found in string");
        assert!(trace.contains(file!()), "{trace}");
    }
}
