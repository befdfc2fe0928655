//! The errors that this port answers by itself: what programs read, and the documents list.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortError {
    /// The HTTP status. That of [`unhandled`](ERRORS) is the peer's where it sends one.
    pub status: u16,
    /// The value of `error` in the body, for programs: short, snake case.
    pub name: &'static str,
    /// When it is answered, in words for the documents.
    pub meaning: &'static str,
}

/// Each is a constant, and in the list, so that there is no other.
macro_rules! errors {
    ($($constant:ident = $status:literal $name:literal $meaning:literal;)*) => {
        $(
            pub(super) const $constant: PortError =
                PortError { status: $status, name: $name, meaning: $meaning };
        )*

        /// All of them, by status.
        pub const ERRORS: &[PortError] = &[$($constant),*];
    };
}

errors! {
    BAD_REQUEST = 400 "bad_request" "the request is malformed";
    BAD_PATH = 400 "bad_path" "the path is malformed";
    BAD_WAIT = 400 "bad_wait" "`RP-Wait` is not a number of seconds";
    BODY_INCOMPLETE = 400 "body_incomplete" "the body was cut short";
    BODY_NOT_WANTED = 400 "body_not_wanted" "a request with a body to a path of this node itself";
    ORIGIN_NOT_ALLOWED = 403 "origin_not_allowed" "a web page of another site";
    UNHANDLED = 404 "unhandled" "code 255: no handler for this noun";
    UNKNOWN_PEER = 404 "unknown_peer" "a client that was never seen and whose name does not resolve";
    UNKNOWN_PATH = 404 "unknown_path"
        "neither `/server/...` on a client nor `/client/...` on the server";
    NOT_CONNECTED = 404 "not_connected" "no client of this name is connected";
    WRONG_VERB = 405 "wrong_verb" "code 255: the noun has other verbs; `Allow` lists them";
    METHOD_NOT_ALLOWED = 405 "method_not_allowed"
        "CONNECT, TRACE; another method than a path of this node itself has";
    HEAD_TIMEOUT = 408 "head_timeout" "the head came too slowly";
    BODY_TIMEOUT = 408 "body_timeout" "the body came too slowly";
    AMBIGUOUS_PEER = 409 "ambiguous_peer"
        "more than one client connects from this address; `names` lists them";
    BODY_TOO_LARGE = 413 "body_too_large"
        "the peer is an original RestPipe, and the body is larger than `RP_MAX_BODY_BYTES`";
    EXPECTATION_FAILED = 417 "expectation_failed" "`Expect` is something else than `100-continue`";
    HOST_NOT_ALLOWED = 421 "host_not_allowed" "`Host` is not accepted";
    HEAD_TOO_LARGE = 431 "head_too_large" "the head is over 16 KiB";
    TOO_MANY_FIELDS = 431 "too_many_fields" "the head has over 64 fields";
    TRAILERS_TOO_LARGE = 431 "trailers_too_large" "chunk extensions and trailers are over 8 KiB";
    CALLER_GONE = 499 "caller_gone" "the caller went away; only a log shows it";
    METHOD_NOT_IMPLEMENTED = 501 "method_not_implemented" "an unknown method";
    CODING_NOT_IMPLEMENTED = 501 "coding_not_implemented" "an unknown transfer coding";
    OUTCOME_UNKNOWN = 502 "outcome_unknown" "the pipe was lost before the reply";
    NOT_CARRIED = 502 "not_carried" "the peer is an original RestPipe and cannot be sent this";
    PEER_AWAY = 503 "peer_away" "the peer is still away after the wait";
    FULL = 503 "full" "too much is going on";
    STOPPING = 503 "stopping" "this node is stopping";
    NO_REPLY = 504 "no_reply" "no reply within `RP_REPLY_TIMEOUT_S`";
    VERSION_NOT_SUPPORTED = 505 "version_not_supported" "not HTTP/1.0 or 1.1";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_listed_once_with_a_status_of_an_error() {
        for (at, error) in ERRORS.iter().enumerate() {
            assert!((400..=599).contains(&error.status), "{error:?}");
            assert!(error.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{error:?}");
            assert!(ERRORS[..at].iter().all(|other| other.name != error.name), "{error:?}");
            assert!(ERRORS[..at].iter().all(|other| other.status <= error.status), "{error:?}");
        }
    }
}
