//! The head of a request to a service: which parts of an event are forwarded.
//!
//! In scope: serialization. Not in scope: whether the path is allowed (`path`), and the body.

use std::borrow::Cow;

use super::path;
use crate::event::{Event, Verb, header};
use crate::handler::Context;
use crate::http1::framing::Framing;

/// Identifies the peer to the service. No other field may claim to.
const PEER_NAME: &str = "RP-Peer-Name";
const PEER_FINGERPRINT: &str = "RP-Peer-Fingerprint";
/// The IP address that the pipe comes from, or leads to.
const PEER_ADDRESS: &str = "RP-Peer-Address";
const REQUEST_ID: &str = "RP-Request-Id";
/// The start of all names that say who the peer is, in lower case: also of those that a later
/// version, or another program in front of the service, may add.
const PEER: &str = "rp-peer-";

/// Fields that are written here, or apply only to this connection, in lower case. `Proxy` has no
/// defined meaning, and programs behind CGI take it for the name of a proxy.
const OWN: [&str; 5] = ["host", "content-type", "expect", "proxy", "rp-request-id"];

/// The framing of an event's body. A method that usually has a body sends an explicit length of
/// zero (RFC 9110, section 8.6).
pub(super) fn framing(event: &Event) -> Framing {
    use Verb::{Delete, Get, Options};
    match (event.body.length(), event.verb) {
        (Some(0), Get | Delete | Options) => Framing::None,
        (Some(length), _) => Framing::Length(length),
        (None, _) => Framing::Chunked,
    }
}

/// The request head for this event. `prefix` is empty, or begins but does not end with a slash. The
/// error says why the path is refused.
pub(super) fn head(
    prefix: &str,
    host: &str,
    context: &Context,
    event: &Event,
) -> Result<Vec<u8>, &'static str> {
    let path = event.target.as_path();
    path::check(&path)?;
    let method =
        if is_head(event) { "HEAD".to_owned() } else { event.verb.as_str().to_ascii_uppercase() };
    let mut head = Vec::with_capacity(512);
    for part in [&method, " ", prefix, &path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    add(&mut head, "Host", host);
    add(&mut head, PEER_NAME, &as_value(&context.peer.name));
    add(&mut head, PEER_FINGERPRINT, &as_value(&context.peer.fingerprint));
    add(&mut head, PEER_ADDRESS, &context.peer.address.to_canonical().to_string());
    add(&mut head, REQUEST_ID, context.request_id.as_str());
    if !event.media_type.is_empty() {
        add_field(&mut head, "Content-Type", &event.media_type);
    }
    match framing(event) {
        // For responses only.
        Framing::None | Framing::Close => {}
        Framing::Length(length) => add(&mut head, "Content-Length", &length.to_string()),
        Framing::Chunked => add(&mut head, "Transfer-Encoding", "chunked"),
    }
    for (name, value) in
        header::forwardable(event.headers.iter().map(|(name, value)| (name, value)))
    {
        if !is_not_forwarded(name) && !is_named(event, name) {
            add_field(&mut head, name, value);
        }
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Whether to request only a head. Only a `GET` can: the rules have not allowed a `HEAD` in place
/// of any other verb.
pub(super) fn is_head(event: &Event) -> bool {
    event.head_only && event.verb == Verb::Get
}

fn add(head: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
}

/// Adds a field of the caller's, with the bytes that its value stands for.
fn add_field(head: &mut Vec<u8>, name: &str, value: &str) {
    if let Some(value) = header::to_bytes(value) {
        for part in [name.as_bytes(), b": ", &value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
}

/// Encodes a name as a field value: characters that are not allowed there are percent-encoded.
fn as_value(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') {
        return Cow::Borrowed(text);
    }
    let encode = |byte: u8| match byte {
        0x21..=0x7e if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    Cow::Owned(text.bytes().map(encode).collect())
}

/// Whether a field is not forwarded. CGI and its successors distinguish names only by letters and
/// digits: `RP_Peer_Name` and `RP.Peer.Name` arrive as `RP-Peer-Name`, so a name that looks like a
/// blocked one is blocked too.
fn is_not_forwarded(name: &str) -> bool {
    let is_one = |name: &str| {
        let says_who = name.get(..PEER.len()).is_some_and(|start| start.eq_ignore_ascii_case(PEER));
        says_who
            || header::is_hop_by_hop(name)
            || OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
    };
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return is_one(name);
    }
    let folded: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    // Set by the caller's node.
    is_one(&folded) || folded.eq_ignore_ascii_case("x-forwarded-host")
}

/// Whether a `Connection` field names this one. The caller's node has removed such fields, but a
/// peer is not trusted to have done so.
fn is_named(event: &Event, name: &str) -> bool {
    let connections =
        event.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    let mut options = connections.flat_map(|(_, value)| value.split(','));
    options.any(|option| option.trim().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::event::{Body, RequestId};
    use crate::handler::{PeerIdentity, Role};

    fn context(name: &str) -> Context {
        Context {
            role: Role::Client,
            peer: Arc::new(PeerIdentity {
                name: name.to_owned(),
                fingerprint: "2f0c".to_owned(),
                address: Ipv4Addr::LOCALHOST.into(),
            }),
            request_id: RequestId::parse("id-1").unwrap(),
            cancelled: Arc::default(),
        }
    }

    fn lines(event: &Event) -> Vec<String> {
        let head = head("/api", "127.0.0.1:9000", &context("hub"), event).unwrap();
        let head: String = head.into_iter().map(char::from).collect();
        head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect()
    }

    const FIRST: [&str; 5] = [
        "Host: 127.0.0.1:9000",
        "RP-Peer-Name: hub",
        "RP-Peer-Fingerprint: 2f0c",
        "RP-Peer-Address: 127.0.0.1",
        "RP-Request-Id: id-1",
    ];

    #[test]
    fn a_head_has_what_was_sent_and_who_asks() {
        let mut event = Event::new(Verb::Post, "a//b%2Fc?d=%20&e").unwrap();
        event.media_type = "a/b".to_owned();
        event.headers = [("Accept", "*/*"), ("Cookie", "a=b"), ("cookie", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        event.body = "abc".into();
        let mut expected = vec!["POST /api/a//b%2Fc?d=%20&e HTTP/1.1"];
        expected.extend(FIRST);
        expected.extend(["Content-Type: a/b", "Content-Length: 3", "Accept: */*", "Cookie: a=b"]);
        expected.push("cookie: ");
        assert_eq!(lines(&event), expected);
    }

    #[test]
    fn the_body_is_framed_as_it_is_known() {
        let framed = |verb, body: Body| {
            let mut event = Event::new(verb, "").unwrap();
            event.body = body;
            lines(&event).split_off(1 + FIRST.len()).concat()
        };
        let unknown = || Body::stream(&b"x"[..], None);
        assert_eq!(framed(Verb::Get, Body::empty()), "");
        assert_eq!(framed(Verb::Delete, "x".into()), "Content-Length: 1");
        assert_eq!(framed(Verb::Put, Body::empty()), "Content-Length: 0");
        assert_eq!(framed(Verb::Get, unknown()), "Transfer-Encoding: chunked");
        assert_eq!(
            framed(Verb::Put, Body::stream(&b""[..], Some(1 << 40))),
            "Content-Length: 1099511627776"
        );
    }

    #[test]
    fn the_head_alone_is_asked_with_its_own_method() {
        let event = Event { head_only: true, ..Event::new(Verb::Get, "").unwrap() };
        assert_eq!(lines(&event)[0], "HEAD /api/ HTTP/1.1");
        let event = Event { head_only: true, ..Event::new(Verb::Delete, "").unwrap() };
        assert_eq!(lines(&event)[0], "DELETE /api/ HTTP/1.1");
    }

    #[test]
    fn what_belongs_elsewhere_and_what_is_forged_stays_behind() {
        let mut event = Event::new(Verb::Get, "x").unwrap();
        event.headers = [
            ("rp-peer-name", "forged"),
            ("RP_Peer_Name", "forged"),
            ("RP_PEER-NAME", "forged"),
            ("Rp.Peer.Fingerprint", "forged"),
            ("RP-Peer-Address", "forged"),
            ("rp_peer_role", "forged"),
            ("RP-PEER-", "forged"),
            ("RP_REQUEST_ID", "forged"),
            ("RP~Request|Id", "forged"),
            ("HOST", "canary"),
            ("Connection", "close, X-Named"),
            ("x-named", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Transfer_Encoding", "chunked"),
            ("Content_Length", "5"),
            ("Content-Length", "5"),
            ("Content-Type", "a/b"),
            ("Expect", "100-continue"),
            ("Upgrade", "h2c"),
            ("Proxy", "http://canary"),
            ("Proxy-Authorization", "secret"),
            ("X_Forwarded_Host", "canary"),
            ("X-Split", "a\r\nX-Evil: 1"),
            ("X-Evil: 1\r\nX", "a"),
            ("X-Alphabet", "\u{100}"),
            ("X-Kept", "1"),
            ("X_Kept", "2"),
            ("RP-Peers", "3"),
            ("X-Byte", "\u{e4}"),
            ("X-Request-Id", "the caller's"),
            ("X-Forwarded-Host", "localhost:8081"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        event.media_type = "a/b\r\nX-Evil: 1".to_owned();
        let mut expected = vec!["GET /api/x HTTP/1.1"];
        expected.extend(FIRST);
        expected.extend([
            "X-Kept: 1",
            "X_Kept: 2",
            "RP-Peers: 3",
            "X-Byte: \u{e4}",
            "X-Request-Id: the caller's",
            "X-Forwarded-Host: localhost:8081",
        ]);
        assert_eq!(lines(&event), expected);
    }

    #[test]
    fn a_peers_name_is_one_word_whatever_it_is() {
        for (name, value) in [
            ("web-1.example.com", "web-1.example.com"),
            ("a b", "a%20b"),
            ("100%", "100%25"),
            ("\u{e4}\r\nX: y", "%C3%A4%0D%0AX:%20y"),
        ] {
            assert_eq!(as_value(name), value);
        }
    }
}
