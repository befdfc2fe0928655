//! Turns a parsed head into a request to send, or a refusal.
//!
//! In scope: every check that needs no body, cheapest and most suspicious first. Not in scope:
//! bytes and sockets.

use std::time::Duration;

use crate::event::errors;
use crate::event::{MAX_MEDIA_TYPE, Target, Verb};
use crate::http::HttpSettings;
use crate::http::guard::Guard;
use crate::http::head::{RequestHead, forward};
use crate::http::local::{LocalEndpoint, LocalRequest};
use crate::http::refusal::Refusal;
use crate::http::route::{self, Destination};

/// The accepted methods, for `Allow`.
const ALLOWED: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// The destination of a checked request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CheckedRequest {
    /// A request to a peer.
    Peer(PeerRequest),
    /// A request to this node itself.
    Local(LocalRequest),
}

/// A request that passed the checks, without its body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PeerRequest {
    /// The peer to send it to.
    pub destination: Destination,
    pub verb: Verb,
    /// The noun and its parameters.
    pub target: Target,
    /// The body's media type; empty if missing.
    pub media_type: String,
    /// The headers to forward.
    pub headers: Vec<(String, String)>,
    /// How long to wait for a disconnected peer.
    pub wait: Duration,
    /// Whether the response is sent without its body.
    pub head_only: bool,
    /// Whether the caller waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether to relay the connection to the target that the path names.
    pub is_tunnel: bool,
}

/// Checks a head.
pub(super) fn check(
    head: RequestHead<'_>,
    settings: &HttpSettings,
    guard: &Guard,
) -> Result<CheckedRequest, Refusal> {
    let (verb, head_only) = method(head.method)?;
    let (authority, path) = split_target(head.target)?;
    route::check(path)?;
    guard.check(&head, authority)?;
    if let Some(endpoint) = LocalEndpoint::of(path)? {
        return LocalRequest::new(endpoint, verb).map(CheckedRequest::Local);
    }
    guard.check_proof(&head)?;
    let route = route::find(settings.role, path)?;
    let target =
        Target::parse(route.rest).map_err(|e| Refusal::new(errors::BAD_PATH, e.to_string()))?;
    if head.content_type.len() > MAX_MEDIA_TYPE {
        let message = format!("the media type is longer than {MAX_MEDIA_TYPE} bytes");
        return Err(Refusal::new(errors::BAD_REQUEST, message));
    }
    let expects_continue = expectation(&head)?;
    // RFC 9110, section 7.8: an unknown protocol is ignored.
    let is_tunnel =
        verb == Verb::Get && head.upgrade.is_some_and(|to| to.eq_ignore_ascii_case("tcp"));
    let mut headers = head.headers;
    forward::add_host(&mut headers, authority.or(head.host));
    Ok(CheckedRequest::Peer(PeerRequest {
        destination: route.destination,
        verb,
        target,
        media_type: head.content_type.into_owned(),
        headers,
        wait: wait(head.wait, settings.connection_wait)?,
        head_only,
        expects_continue,
        is_tunnel,
    }))
}

/// The verb, and whether to omit the response body. Fails with 405 for a method that HTTP defines,
/// with 501 for any other (RFC 9110, section 9.1).
fn method(method: &str) -> Result<(Verb, bool), Refusal> {
    let verb = match method {
        "GET" => Verb::Get,
        "HEAD" => return Ok((Verb::Get, true)),
        "POST" => Verb::Post,
        "PUT" => Verb::Put,
        "DELETE" => Verb::Delete,
        "PATCH" => Verb::Patch,
        "OPTIONS" => Verb::Options,
        "CONNECT" | "TRACE" => {
            let message = format!("{method} is not possible here; {ALLOWED} are");
            return Err(
                Refusal::new(errors::METHOD_NOT_ALLOWED, message).with_header("Allow", ALLOWED)
            );
        }
        _ => {
            let message = format!("{method:?} is no method known here; {ALLOWED} are");
            return Err(
                Refusal::new(errors::METHOD_NOT_IMPLEMENTED, message).with_header("Allow", ALLOWED)
            );
        }
    };
    Ok((verb, false))
}

/// Splits the target into the authority, if it is in absolute form, and the path with its query. A
/// server must accept the absolute form (RFC 9112, section 3.2.2).
fn split_target(target: &str) -> Result<(Option<&str>, &str), Refusal> {
    let bad = |message| Err(Refusal::new(errors::BAD_PATH, message));
    if target.contains('#') {
        return bad("a request carries no fragment (#)");
    }
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let scheme = "http://";
    match target.get(..scheme.len()) {
        Some(start) if start.eq_ignore_ascii_case(scheme) => {
            let rest = &target[scheme.len()..];
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let path = if rest[end..].starts_with('/') { &rest[end..] } else { "/" };
            Ok((Some(&rest[..end]), path))
        }
        _ => bad("the request names no path"),
    }
}

/// The caller's own wait, if it is shorter.
fn wait(field: Option<&str>, most: Duration) -> Result<Duration, Refusal> {
    let Some(text) = field else { return Ok(most) };
    let bad = || {
        let message = "RP-Wait must be a number of seconds, zero or more";
        Refusal::new(errors::BAD_WAIT, message)
    };
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds: f64 = if plain { text.parse().map_err(|_| bad())? } else { return Err(bad()) };
    // A value that overflows is longer than any wait.
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(most).min(most))
}

/// Whether the caller waits for `100 Continue` (RFC 9110, section 10.1.1: not in HTTP/1.0).
fn expectation(head: &RequestHead<'_>) -> Result<bool, Refusal> {
    match head.expect {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("100-continue") => Ok(!head.http_1_0),
        Some(_) => {
            let message = "the only expectation that can be met is 100-continue";
            Err(Refusal::new(errors::EXPECTATION_FAILED, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::peer::Role;
    use crate::http::head::{find_end, parse};

    fn ask(line: &str, fields: &str) -> Result<PeerRequest, Refusal> {
        let settings = HttpSettings::new(Role::Client);
        let guard = Guard::new(&settings, &settings.bind);
        let bytes = format!("{line}\r\nHost: localhost\r\n{fields}\r\n");
        match check(parse(bytes.as_bytes()).unwrap(), &settings, &guard)? {
            CheckedRequest::Peer(request) => Ok(request),
            CheckedRequest::Local(_) => {
                Err(Refusal { status: 299, ..Refusal::new(errors::UNKNOWN_PATH, "local") })
            }
        }
    }

    #[test]
    fn a_request_is_taken_apart() {
        let request = ask(
            "HEAD /server/cat//a%2Fb?c=d HTTP/1.1",
            "Content-Type: text/x\r\nRP-Wait: 1.5\r\nExpect: 100-Continue\r\n",
        )
        .unwrap();
        assert_eq!((request.verb, request.head_only), (Verb::Get, true));
        assert_eq!(request.target, Target::parse("cat//a%2Fb?c=d").unwrap());
        assert_eq!(request.media_type, "text/x");
        assert_eq!(request.wait, Duration::from_millis(1500));
        assert!(request.expects_continue);
        assert_eq!(request.headers, [("X-Forwarded-Host".to_owned(), "localhost".to_owned())]);
        let request = ask("GET http://localhost:1/server/a HTTP/1.1", "A: b\r\n").unwrap();
        assert_eq!(request.headers[1].1, "localhost:1", "it goes before the Host field");
        let request = ask("GET /server/a HTTP/1.1", "x-forwarded-host: b\r\n").unwrap();
        assert_eq!(request.headers, [("x-forwarded-host".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn refusals_have_their_status() {
        let cases = [
            ("GET /server/time HTTP/1.1", "", 200),
            ("GET HTTP://LOCALHOST:1/server/time HTTP/1.1", "", 200),
            ("GET http://evil.example/server/time HTTP/1.1", "", 421),
            ("GET http://u@localhost/server/time HTTP/1.1", "", 421),
            ("GET http://localhost HTTP/1.1", "", 299),
            ("GET /status?a HTTP/1.1", "", 299),
            ("POST /status HTTP/1.1", "", 405),
            ("GET /status HTTP/1.1", "Origin: http://evil.example\r\n", 403),
            ("GET http://evil.example/status HTTP/1.1", "", 421),
            ("GET http://localhost?/server/time HTTP/1.1", "", 299),
            ("GET https://localhost/server/time HTTP/1.1", "", 400),
            ("GET server/time HTTP/1.1", "", 400),
            ("OPTIONS * HTTP/1.1", "", 400),
            ("GET /server/time#x HTTP/1.1", "", 400),
            ("GET /server/ HTTP/1.1", "", 200),
            ("GET /server/%ff HTTP/1.1", "", 400),
            ("GET /server/a/../b HTTP/1.1", "", 400),
            ("GET http://localhost/%2e/status HTTP/1.1", "", 400),
            ("GET //status HTTP/1.1", "Origin: http://evil.example\r\n", 400),
            ("GET /nothing HTTP/1.1", "", 404),
            ("CONNECT localhost:80 HTTP/1.1", "", 405),
            ("TRACE /server/time HTTP/1.1", "", 405),
            ("FOO /server/time HTTP/1.1", "", 501),
            ("get /server/time HTTP/1.1", "", 501),
            ("POST /server/time HTTP/1.1", "Expect: more\r\n", 417),
            ("GET /server/time HTTP/1.1", "Origin: http://evil.example\r\n", 403),
            ("GET /server/time HTTP/1.1", "User-Agent: Mozilla/5.0 (X11)\r\n", 403),
            ("GET /status HTTP/1.1", "User-Agent: Mozilla/5.0 (X11)\r\n", 299),
            ("GET /server/time HTTP/1.1", "RP-Wait: soon\r\n", 400),
        ];
        for (line, fields, status) in cases {
            let found = ask(line, fields).map_or_else(|refusal| refusal.status, |_| 200);
            assert_eq!(found, status, "{line} {fields:?}");
        }
    }

    /// Every input gets a response, and only clean text passes.
    #[test]
    fn garbled_heads_are_understood_or_refused() {
        let settings = HttpSettings::new(Role::Server);
        let guard = Guard::new(&settings, &settings.bind);
        let whole = b"PUT http://localhost/client/a%41/cat//x?y=z HTTP/1.1\r\nHost: [::1]:80\r\n\
            Content-Length: 5\r\nOrigin: http://localhost\r\nRP-Wait: 1.5\r\n\r\n";
        let mut random = fastrand::Rng::with_seed(7);
        let mut understood = 0;
        for _ in 0..20_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.insert(at, *random.choice(b"\r\n %:/[]?#.,09-".iter()).unwrap()),
                    _ => drop(bytes.remove(at)),
                }
            }
            let Ok(Some(end)) = find_end(&bytes, 0) else { continue };
            let checked = parse(&bytes[..end]).and_then(|head| check(head, &settings, &guard));
            match checked {
                Ok(CheckedRequest::Local(_)) => {}
                Ok(CheckedRequest::Peer(request)) => {
                    understood += 1;
                    let Destination::Client(name) = &request.destination else { panic!() };
                    assert!(!name.chars().any(char::is_control), "{name:?}");
                    assert!(request.wait <= settings.connection_wait);
                }
                Err(refusal) => assert!((400..=505).contains(&refusal.status)),
            }
        }
        assert!((1000..19_000).contains(&understood), "{understood}");
    }

    #[test]
    fn the_callers_wait_only_shortens() {
        let most = Duration::from_secs(20);
        assert_eq!(wait(None, most), Ok(most));
        let cases = [("0", 0), ("3", 3000), ("0.25", 250), ("20", 20_000), ("99", 20_000)];
        for (text, millis) in cases {
            assert_eq!(wait(Some(text), most), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(wait(Some(&"9".repeat(400)), most), Ok(most));
        for text in ["", "-1", "+1", "1e3", "inf", "NaN", ".", "1.2.3", "1 s", "0x1"] {
            assert_eq!(wait(Some(text), most).unwrap_err().status, 400, "{text:?}");
        }
    }
}
