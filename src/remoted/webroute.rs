//! Our ends of a WebRoute: asking a broker to be joined with the end that has the same id.
//!
//! In scope: the request, the broker's response, the texts of refusals. Not in scope: the connection to the
//! broker, and the bytes that follow.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::head::{
    HeadError, Upgrade, UpgradeResponse, field, read_answer, webroute_accept, webroute_request,
};
use super::stream::Stream;
use super::url::{Side, Url};

/// Maximum number of bytes of a refusal's body that are read. The original's have a few hundred.
const MAX_BODY: usize = 4096;
/// The time limit for a refusal's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest reason of a broker that is repeated, in characters.
const MAX_REASON: usize = 200;

/// Why there is no connection through a broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {cause}")]
pub struct ConnectError {
    /// The path, without its key.
    at: String,
    cause: Cause,
}

/// The cause of a [`ConnectError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The address has no key.
    #[error("there is no key for it")]
    NoKey,
    /// The broker, or the proxy before it, is unreachable or failed authentication.
    #[error("{0}")]
    Unreachable(String),
    /// The broker does not know the key, or not for this role and path (403).
    #[error("the broker does not take this key here (403)")]
    WrongKey,
    /// No server is registered on the path now (502).
    #[error("nobody serves this path at this time (502)")]
    NobodyThere,
    /// The server did not come in time (504, or no response).
    #[error("the server of this path did not come in time")]
    NeverCame,
    /// The key is one of the other role.
    #[error("{}", wrong_role(.0))]
    WrongRole(Side),
    /// The broker refuses for another reason.
    #[error("the broker refuses ({}{})", .0, after_colon(.1))]
    Refused(u16, String),
    /// The peer is not a broker, or the connection broke before it answered.
    #[error("{0}")]
    Broken(String),
}

impl ConnectError {
    pub(super) fn new(url: &Url, cause: Cause) -> Self {
        Self { at: url.to_string(), cause }
    }

    /// No address was given.
    pub(super) fn no_address() -> Self {
        Self {
            at: "no address".to_owned(),
            cause: Cause::Unreachable("nothing to dial".to_owned()),
        }
    }

    /// The cause.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

/// A broker's reason, which may be empty, to follow its status.
fn after_colon(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// Sends the request on this stream, which leads to the broker, and waits until the broker has joined the two.
/// Nothing may be written before; bytes that the other side sent early are the next to be read.
pub(super) fn join(
    stream: &mut Stream,
    url: &Url,
    id: &str,
    timeout_s: u64,
    deadline: Instant,
) -> Result<(), Cause> {
    let key = url.key().ok_or(Cause::NoKey)?;
    let to = Upgrade { host: &url.authority(), path: url.path(), key: key.reveal() };
    let is_server = url.side() == Side::Server;
    let request = zeroize::Zeroizing::new(webroute_request(&to, id, Some(timeout_s), is_server));
    stream.write_all_within(&request, deadline).map_err(|error| broken(&error))?;
    let answer = read_answer(stream, deadline).map_err(|error| unanswered(&error, deadline))?;
    if answer.status != 101 {
        return Err(refused(stream, &answer, url.side()));
    }
    let is_webroute = answer.fields.has_token("Upgrade", "webroute");
    if !is_webroute || answer.fields.find(field::ACCEPT) != Some(webroute_accept(id).as_str()) {
        return Err(Cause::Broken(
            "what answers is no broker: its Sec-WebRoute-Accept is not that of our id".to_owned(),
        ));
    }
    Ok(())
}

pub(super) fn broken(error: &io::Error) -> Cause {
    Cause::Broken(match error.kind() {
        io::ErrorKind::TimedOut => "the broker takes nothing".to_owned(),
        _ => format!("the connection to the broker broke: {error}"),
    })
}

/// Why there is no response.
pub(super) fn unanswered(error: &HeadError, deadline: Instant) -> Cause {
    match error {
        HeadError::Nothing | HeadError::TooSlow if Instant::now() >= deadline => Cause::NeverCame,
        HeadError::Nothing => Cause::Broken(
            "the broker closed the connection without an answer: the server of this path went away"
                .to_owned(),
        ),
        error => Cause::Broken(format!("the broker's answer: {error}")),
    }
}

/// The cause of a refusal, with the broker's own reason.
pub(super) fn refused(stream: &mut Stream, answer: &UpgradeResponse, side: Side) -> Cause {
    let reason = read_reason(stream, answer);
    /// What brokers answer a caller's key that asks to register, where the path has a server.
    const NO_CALL: &str = "Expected WebRoute upgrade";
    /// What they answer a server's key that asks for a server.
    const NO_SERVER: &str = "Expected WebSocket or WebRoute upgrade";
    match (answer.status, side) {
        (403, _) => Cause::WrongKey,
        // To a caller, nobody serves the path; a server would not be told so.
        (502, Side::Server) => Cause::WrongRole(side),
        (400, Side::Server) if reason.contains(NO_CALL) => Cause::WrongRole(side),
        (400, Side::Caller) if reason.contains(NO_SERVER) => Cause::WrongRole(side),
        (502, Side::Caller) => Cause::NobodyThere,
        (504, _) => Cause::NeverCame,
        (status, _) => Cause::Refused(status, reason),
    }
}

fn wrong_role(side: &Side) -> &'static str {
    match side {
        Side::Server => {
            "the key is one of callers; who serves a path needs one of servers (server_apikey in the \
             broker's file of keys)"
        }
        Side::Caller => {
            "the key is one of servers; a caller needs one of callers (client_apikey in the broker's file \
             of keys)"
        }
    }
}

/// The broker's reason: the `error` of its JSON; empty if there is none.
fn read_reason(stream: &mut Stream, answer: &UpgradeResponse) -> String {
    let length = answer.fields.find("Content-Length").and_then(|length| length.trim().parse().ok());
    let length: usize = length.unwrap_or(0);
    if length == 0 || length > MAX_BODY {
        return String::new();
    }
    let deadline = Instant::now() + BODY_TIMEOUT;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match stream.read_within(&mut bytes[filled..], deadline) {
            Ok(count) if count > 0 => filled += count,
            _ => return String::new(),
        }
    }
    let json: Option<Value> = serde_json::from_slice(&bytes).ok();
    let reason = json.as_ref().and_then(|json| json.get("error")?.as_str()).unwrap_or_default();
    reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    const ID: &str = "Zw1BTNkHbth2XqMg8AlKWwLegXUFWFw6i2c4QLvNxGfWPv9bcthU1tNPokn4QkyI";
    const REQUEST: &str = "GET /test/path/ HTTP/1.1\r\nHost: broker.example\r\n\
        Connection: keep-alive, Upgrade\r\nUpgrade: webroute\r\nWebRoute-Version: 1\r\n\
        WebRoute-ID: Zw1BTNkHbth2XqMg8AlKWwLegXUFWFw6i2c4QLvNxGfWPv9bcthU1tNPokn4QkyI\r\n\
        WebRoute-Timeout: 60\r\nX-Remoted-APIKey: KEY\r\n\r\n";
    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webroute\r\n\
        Connection: Upgrade\r\nSec-WebRoute-Accept: nZJBek4mnWf3Wd8JD7hBrU/97CI=\r\n\r\n";

    /// The result of a request that is answered like this, and the stream.
    fn answered(answer: &[u8]) -> (Result<(), Cause>, Stream) {
        let (mut broker, near) = UnixStream::pair().unwrap();
        let mut near = Stream::socket(near).unwrap();
        broker.write_all(answer).unwrap();
        broker.shutdown(std::net::Shutdown::Write).unwrap();
        let url: Url = "rwr://KEY@broker.example/test/path/".parse().unwrap();
        let result = join(&mut near, &url, ID, 60, Instant::now() + Duration::from_secs(10));
        let mut request = vec![0; REQUEST.len()];
        broker.read_exact(&mut request).unwrap();
        assert_eq!(String::from_utf8(request).unwrap(), REQUEST);
        broker.set_nonblocking(true).unwrap();
        assert!(broker.read(&mut [0; 1]).is_err(), "nothing follows the request");
        (result, near)
    }

    #[test]
    fn bytes_that_come_with_the_answer_are_kept() {
        let (result, mut near) = answered(format!("{ACCEPTED}early bytes").as_bytes());
        assert_eq!(result, Ok(()));
        let mut bytes = [0; 11];
        near.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"early bytes");
    }

    #[test]
    fn interim_answers_are_skipped() {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(50);
        let (result, mut near) = answered(format!("{interim}{ACCEPTED}early bytes").as_bytes());
        assert_eq!(result, Ok(()));
        let mut bytes = [0; 11];
        near.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"early bytes");
        let (result, _) = answered(format!("{interim}HTTP/1.1 504 G\r\n\r\n").as_bytes());
        assert_eq!(result, Err(Cause::NeverCame));
    }

    #[test]
    fn refusals_have_a_cause_and_the_brokers_reason() {
        let json = |status: &str, error: &str| {
            let body = format!(r#"{{"success":false,"error":"{error}","errorcode":"x"}}"#);
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        for (answer, cause) in [
            (json("403 Forbidden", "Invalid"), Cause::WrongKey),
            (json("502 Bad Gateway", "Requested"), Cause::NobodyThere),
            (json("400 Bad", "No\\u0007pe."), Cause::Refused(400, "Nope.".to_owned())),
            ("HTTP/1.1 426 U\r\n\r\n".to_owned(), Cause::Refused(426, String::new())),
            ("HTTP/1.1 504 G\r\nContent-Length: 99999999\r\n\r\n".to_owned(), Cause::NeverCame),
            (
                "HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\n{".to_owned(),
                Cause::Refused(500, String::new()),
            ),
        ] {
            assert_eq!(answered(answer.as_bytes()).0, Err(cause), "{answer}");
        }
    }

    #[test]
    fn a_peer_that_is_no_broker_is_detected() {
        for answer in [
            ACCEPTED.replace("nZJB", "nZJC"),
            ACCEPTED.replace("Upgrade: webroute", "Upgrade: websocket"),
            "HTTP/1.1 101 X\r\n\r\n".to_owned(),
            "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
            "HTTP/1.1 101 X\r\n".to_owned(),
            String::new(),
        ] {
            let (result, _) = answered(answer.as_bytes());
            assert!(matches!(result, Err(Cause::Broken(_))), "{answer}: {result:?}");
        }
    }
}
