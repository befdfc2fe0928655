//! Every error that a response can name: the source for responses and the guide.

/// An error, as named in the response to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerError {
    /// The HTTP status.
    pub status: u16,
    /// For programs: the `error` in the response's JSON.
    pub name: &'static str,
    /// When it occurs, in a line of Markdown.
    pub when: &'static str,
}

/// Defines a constant per row, used by responses, and [`ERRORS`], so that only errors in the table
/// can be sent.
macro_rules! table {
    ($($id:ident: $status:expr, $name:expr, $when:expr;)+) => {
        $(pub(crate) const $id: AnswerError = AnswerError { status: $status, name: $name, when: $when };)+

        /// All errors, in the order in which they are documented.
        pub const ERRORS: &[AnswerError] = &[$($id),+];
    };
}

table! {
    BAD_REQUEST: 400, "bad_request", "the request is malformed";
    BAD_PATH: 400, "bad_path",
        "the path is malformed, or has a segment `.` or `..`; of files also: an empty name or the like";
    BAD_WAIT: 400, "bad_wait", "`RP-Wait` is malformed";
    BODY_INCOMPLETE: 400, "body_incomplete", "the request's body was cut short";
    BODY_NOT_WANTED: 400, "body_not_wanted", "a request with a body to a path of this node itself";
    PARTIAL_PUT: 400, "partial_put", "of files: only a part was to be stored";
    NOT_PASSABLE: 400, "exception", "code 251: a script cannot be passed what was asked";
    ORIGIN_NOT_ALLOWED: 403, "origin_not_allowed",
        "a web page of another site asks, or a browser that does not show for which page";
    REFUSED: 403, "refused", "code 253: the other side's rules do not allow it; it was not handled";
    FORBIDDEN: 403, "forbidden", "of files: not permitted, or it leads out of the directory";
    NOT_A_FILE: 403, "not_a_file", "of files: a FIFO, socket or device";
    NOT_FOUND: 404, "not_found", "no such file";
    UNHANDLED: 404, "unhandled", "code 255: no handler for this noun";
    UNKNOWN_PEER: 404, "unknown_peer",
        "a client that was never seen, asked for later than 30 s after the start";
    UNKNOWN_PATH: 404, "unknown_path",
        "neither `/server/...` on a client nor `/client/...` on the server";
    NOT_CONNECTED: 404, "not_connected",
        "`/status/clients/NAME`: no client of this name is connected";
    WRONG_VERB: 405, "wrong_verb", "code 255: the noun has other verbs; `Allow` lists them";
    METHOD_NOT_ALLOWED: 405, "method_not_allowed",
        "CONNECT, TRACE; another method than a path of this node itself has";
    HEAD_TIMEOUT: 408, "head_timeout", "the request's head came too slowly";
    BODY_TIMEOUT: 408, "body_timeout", "the request's body came too slowly";
    AMBIGUOUS_PEER: 409, "ambiguous_peer",
        "more than one client connects from this address; `names` lists them";
    IS_DIRECTORY: 409, "is_directory", "of files: it is a directory";
    NO_DIRECTORY: 409, "no_directory", "of files: the directory to store it in is missing";
    PRECONDITION_FAILED: 412, "precondition_failed",
        "of files: `If-Match`, `If-None-Match` or the like does not hold";
    BODY_TOO_LARGE: 413, "body_too_large",
        "the peer is an original RestPipe, and the body is larger than `RP_MAX_BODY_BYTES`";
    RANGE_NOT_SATISFIABLE: 416, "range_not_satisfiable",
        "of files and `bytes`: the range lies behind the end";
    EXPECTATION_FAILED: 417, "expectation_failed", "`Expect` is something else than `100-continue`";
    HOST_NOT_ALLOWED: 421, "host_not_allowed", "`Host` is not accepted";
    HEAD_TOO_LARGE: 431, "head_too_large", "the head is over 16 KiB";
    TOO_MANY_FIELDS: 431, "too_many_fields", "the head has more than 128 fields";
    TRAILERS_TOO_LARGE: 431, "trailers_too_large", "chunk extensions and trailers of a body are over 8 KiB";
    CALLER_GONE: 499, "caller_gone", "the caller went away; only a log shows it";
    EXCEPTION: 500, "exception",
        "code 251: the handler failed; or a script's exit code, from 1 to 249";
    METHOD_NOT_IMPLEMENTED: 501, "method_not_implemented", "an unknown method";
    CODING_NOT_IMPLEMENTED: 501, "coding_not_implemented", "an unknown transfer coding";
    OUTCOME_UNKNOWN: 502, "outcome_unknown", "the pipe was lost before the reply, at least once";
    NOT_CARRIED: 502, "not_carried", "the peer is an original RestPipe and cannot be sent this";
    UNREACHABLE: 502, "unreachable",
        "code 251: no connection to the local service of the other side; of TCP: to the target";
    BAD_ANSWER: 502, "bad_answer",
        "code 251: that service closed the connection, or sent what is no reply or not a whole one";
    PEER_AWAY: 503, "peer_away", "the peer is still away after the wait";
    FULL: 503, "full", "too much is going on";
    STOPPING: 503, "stopping", "this node is stopping";
    BUSY: 503, "exception", "code 251: the peer has too much to handle, or is stopping";
    NO_REPLY: 504, "no_reply", "no reply within `RP_REPLY_TIMEOUT_S`";
    SERVICE_TIMEOUT: 504, "service_timeout",
        "code 251: the other side's local service sent no reply within that side's `RP_REPLY_TIMEOUT_S`";
    SCRIPT_TIMEOUT: 504, "exception", "code 251: a script ran for `RP_EXEC_TIMEOUT_S`";
    VERSION_NOT_SUPPORTED: 505, "version_not_supported", "not HTTP/1.0 or 1.1";
    NO_SPACE: 507, "no_space", "of files: there is no room left";
}
