//! Turns a reply or a refusal into an HTTP response.
//!
//! In scope: status, headers, and the headers a peer may not set. Not in scope: serialization, and
//! which headers act on more than the response (`steering`).

use tiny_http::Header;

use crate::event::{
    Body, CODE_EXCEPTION, CODE_FINE, CODE_REFUSED, CODE_UNHANDLED, Event, Reply, RequestId, errors,
    header,
};
use crate::http::refusal::Refusal;

/// Headers that this port sets itself.
const OWN: [&str; 4] = ["date", "server", "x-event-return-code", "rp-request-id"];

/// An HTTP response.
pub(super) struct HttpResponse {
    pub head: ResponseHead,
    /// The body, buffered or streamed.
    pub body: Body,
}

/// The head of a response, without the headers that frame the message.
pub(super) struct ResponseHead {
    /// The HTTP status, 200 to 599.
    pub status: u16,
    /// The headers set by this node.
    pub headers: Vec<Header>,
    /// The peer's headers, each of which can be sent.
    pub fields: Vec<(String, String)>,
    /// Whether a browser opens the response as a document without rights at this port.
    pub sandboxed: bool,
}

impl ResponseHead {
    fn of_node(status: u16, headers: Vec<Header>) -> Self {
        Self { status, headers, fields: Vec::new(), sandboxed: false }
    }
}

impl HttpResponse {
    /// The response that carries the peer's reply to `event`, without the headers that are
    /// `stopped`. Unless the peer is `trusted` with the rights of this port's own pages, a browser
    /// opens it in a sandbox.
    pub fn of_reply(
        reply: Reply,
        event: &Event,
        trusted: bool,
        stopped: impl Fn(&str) -> bool,
    ) -> Self {
        let status = status(&reply);
        let Reply { code, mut media_type, mut body, headers: fields, .. } = reply;
        if code == CODE_UNHANDLED && body.length() == Some(0) {
            body = json(&unhandled(&fields, status, event));
            "application/json".clone_into(&mut media_type);
        }
        let own_type = !media_type.is_empty() && header::is_clean(&media_type);
        let passes = |name: &str| {
            let is = |other: &str| other.eq_ignore_ascii_case(name);
            let is_own = OWN.into_iter().any(is)
                || (own_type && is("content-type"))
                || (!trusted && is("x-content-type-options"));
            !is_own && !stopped(name)
        };
        let mut fields: Vec<(String, String)> =
            header::forwardable(fields).filter(|(name, _)| passes(name)).collect();
        let mut headers = Vec::with_capacity(4);
        push(&mut headers, "Server", "restpipe");
        if own_type && media_type.is_ascii() {
            push(&mut headers, "Content-Type", &media_type);
        } else if own_type {
            fields.push(("Content-Type".to_owned(), media_type));
        }
        match code {
            CODE_FINE => push(&mut headers, "X-Event-Return-Code", "0"),
            code => push(&mut headers, "X-Event-Return-Code", &code.to_string()),
        }
        Self { head: ResponseHead { status, headers, fields, sandboxed: !trusted }, body }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Adds the request id.
    pub fn with_request_id(mut self, id: &RequestId) -> Self {
        push(&mut self.head.headers, "RP-Request-Id", id.as_str());
        self
    }

    /// A response of this node itself; it must not be cached or interpreted as another media type.
    pub fn of_node(status: u16, media_type: &str, body: Body) -> Self {
        let mut headers = Vec::with_capacity(6);
        push(&mut headers, "Server", "restpipe");
        push(&mut headers, "Content-Type", media_type);
        push(&mut headers, "Cache-Control", "no-store");
        push(&mut headers, "X-Content-Type-Options", "nosniff");
        Self { head: ResponseHead::of_node(status, headers), body }
    }

    /// Adds a header set by this node.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        push(&mut self.head.headers, name, value);
        self
    }

    /// The response for a refusal.
    pub fn of_refusal(refusal: &Refusal) -> Self {
        let mut headers = Vec::with_capacity(4);
        push(&mut headers, "Server", "restpipe");
        push(&mut headers, "Content-Type", "application/json");
        for (name, value) in &refusal.headers {
            push(&mut headers, name, value);
        }
        Self { head: ResponseHead::of_node(refusal.status, headers), body: json(refusal) }
    }
}

/// The status of a reply: its own if final, otherwise derived from its code.
fn status(reply: &Reply) -> u16 {
    match (reply.status, reply.code) {
        (Some(status @ 200..=599), _) => status,
        (_, CODE_UNHANDLED) => errors::UNHANDLED.status,
        (_, CODE_REFUSED) => errors::REFUSED.status,
        (_, CODE_EXCEPTION) => errors::EXCEPTION.status,
        _ => 200,
    }
}

/// The refusal for an unhandled event, for which the peer sends no body.
fn unhandled(headers: &[(String, String)], status: u16, event: &Event) -> Refusal {
    let method = event.method_name();
    if status != 405 {
        let refusal = Refusal::new(errors::UNHANDLED, format!("the peer has no handler {method}"));
        return Refusal { status, ..refusal };
    }
    let allow = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("allow"));
    let allow = allow.map_or("other verbs", |(_, value)| value.as_str());
    let message = format!("the peer has no handler {method}; it answers {allow} there");
    Refusal::new(errors::WRONG_VERB, message)
}

fn json(refusal: &Refusal) -> Body {
    Reply::json(&refusal.json()).body
}

/// Adds a header that is set by this node, or is known to be ASCII.
fn push(headers: &mut Vec<Header>, name: &str, value: &str) {
    headers.extend(Header::from_bytes(name, value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Verb;

    fn answer(reply: Reply) -> HttpResponse {
        let event = Event::new(Verb::Get, "time/utc").unwrap();
        HttpResponse::of_reply(reply, &event, false, |name| name == "x-accel-redirect")
    }

    fn all(answer: &HttpResponse) -> Vec<(String, String)> {
        let ResponseHead { headers, fields, .. } = &answer.head;
        let own = headers.iter().map(|h| (h.field.to_string(), h.value.to_string()));
        own.chain(fields.iter().cloned()).collect()
    }

    fn field(answer: &HttpResponse, name: &'static str) -> Option<String> {
        let all = all(answer).into_iter();
        let mut found = all.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value);
        assert_eq!(found.count(), 0, "{name} twice");
        value
    }

    #[test]
    fn the_status_is_the_replys_or_follows_from_the_code() {
        let cases = [
            (None, 0, 200),
            (None, 7, 200),
            (None, 251, 500),
            (None, 253, 403),
            (None, 255, 404),
            (Some(405), 255, 405),
            (Some(201), 0, 201),
            (Some(599), 0, 599),
            (Some(199), 0, 200),
            (Some(100), 251, 500),
            (Some(600), 0, 200),
            (Some(0), 255, 404),
        ];
        for (status, code, expected) in cases {
            let mut reply = Reply::new("a/b", "x").with_code(code);
            reply.status = status;
            let answer = answer(reply);
            assert_eq!(answer.status(), expected, "{status:?} {code}");
            assert_eq!(field(&answer, "X-Event-Return-Code"), Some(code.to_string()));
            assert_eq!(answer.body, "x".into());
        }
    }

    #[test]
    fn an_empty_unhandled_reply_gets_a_body() {
        let unhandled = answer(Reply::unhandled());
        assert_eq!(unhandled.status(), 404);
        assert_eq!(field(&unhandled, "Content-Type").unwrap(), "application/json");
        let body: serde_json::Value =
            serde_json::from_slice(unhandled.body.whole().unwrap()).unwrap();
        assert_eq!(body["error"], "unhandled");
        assert!(body["message"].as_str().unwrap().contains("get_time_utc"), "{body}");

        let wrong = answer(Reply::wrong_verb(&[Verb::Post]));
        assert_eq!((wrong.status(), field(&wrong, "Allow").unwrap().as_str()), (405, "POST"));
        let body: serde_json::Value = serde_json::from_slice(wrong.body.whole().unwrap()).unwrap();
        assert_eq!(body["error"], "wrong_verb");
    }

    #[test]
    fn a_peer_can_set_only_clean_headers_of_its_own() {
        let mut reply = Reply::new("text/plain\r\nX-Evil: 1", "");
        let sent = [
            ("X-Fine", "a b\tc"),
            ("X-Empty", ""),
            ("Connection", "close"),
            ("content-LENGTH", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Date", "now"),
            ("Server", "x"),
            ("X-Event-Return-Code", "9"),
            ("RP-Request-ID", "9"),
            ("X-Request-Id", "the service's"),
            ("X-Split", "a\r\nX-Evil: 1"),
            ("X Space", "a"),
            ("X-Evil: 1\r\nX", "a"),
            ("", "a"),
            ("X-Byte", "\u{e4}"),
            ("X-Alphabet", "\u{100}"),
            ("X-Content-Type-Options", "sniff"),
            ("X-Nul", "\0"),
            ("x-accel-redirect", "/secret"),
        ];
        reply.headers = sent.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let answer = answer(reply);
        let names: Vec<String> = all(&answer).into_iter().map(|(name, _)| name).collect();
        let expected =
            ["Server", "X-Event-Return-Code", "X-Fine", "X-Empty", "X-Request-Id", "X-Byte"];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_media_type_goes_before_a_header_of_that_name() {
        for (media_type, expected) in [("a/b", "a/b"), ("", "c/d"), ("a\u{e4}", "a\u{e4}")] {
            let reply = Reply::new(media_type, "").with_header("Content-Type", "c/d");
            assert_eq!(field(&answer(reply), "Content-Type").unwrap(), expected);
        }
    }
}
