//! What a request asks for, by its head and its key alone.
//!
//! In scope: the rules of the protocol, without sockets. Not in scope: whether the path is taken or
//! the id known.

use std::sync::Arc;

use super::refusal::Refusal;
use crate::remoted::head::{Request, field};
use crate::remoted::keys::{Key, Keyring, Role};

/// The longest id, in bytes; the original's have 64 characters.
const MAX_ID: usize = 4096;
/// The longest `WebRoute-Timeout`, in seconds: a year.
const MAX_TIMEOUT_S: u64 = 366 * 86_400;
/// What counts where none is sent, and the shortest that a server is told.
pub(super) const TIMEOUT_S: u64 = 60;

/// Where a caller and a server meet: the target as sent, with its query, and the id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Meeting {
    pub target: String,
    pub id: String,
}

/// What somebody with a good key wants.
pub(super) enum Wish {
    /// A server: to be told of callers.
    Register(Result<Handshake, Refusal>),
    /// A server: to be joined with a caller.
    Join(Route),
    /// A caller: to be joined with a server. Nothing of it counts while nobody is registered.
    Call(Result<Route, Refusal>),
}

/// What a WebSocket begins with.
pub(super) struct Handshake {
    /// Its `Sec-WebSocket-Key`.
    pub key: String,
}

/// A WebRoute.
pub(super) struct Route {
    pub meeting: Meeting,
    /// `WebRoute-Timeout`, in seconds.
    pub timeout_s: u64,
}

/// Whose key it is, and what it is used for.
pub(super) fn judge(request: &Request, keyring: &Keyring) -> Result<(Arc<Key>, Wish), Refusal> {
    let shown = request.fields.find(field::KEY).ok_or_else(|| Refusal::key("it shows no key"))?;
    let key = keyring.find(shown).ok_or_else(|| Refusal::key("its key is none of ours"))?;
    if !key.covers(request.path()) {
        let reason = format!("its key, {}, is not for this path", key.name());
        return Err(Refusal::key(&reason));
    }
    let wish = match key.role() {
        Role::Client => Wish::Call(call(request)),
        Role::Server if request.upgrades_to("websocket") => Wish::Register(handshake(request)),
        Role::Server if request.upgrades_to("webroute") => Wish::Join(route(request)?),
        Role::Server => {
            return Err(Refusal::server("a server asked for neither WebSocket nor WebRoute"));
        }
    };
    Ok((Arc::clone(key), wish))
}

fn call(request: &Request) -> Result<Route, Refusal> {
    if !request.upgrades_to("webroute") {
        return Err(Refusal::caller("a caller asked for something else than WebRoute"));
    }
    route(request)
}

fn route(request: &Request) -> Result<Route, Refusal> {
    if request.fields.find(field::VERSION).is_none_or(|version| version.trim() != "1") {
        return Err(Refusal::webroute_version());
    }
    let id = request.fields.find(field::ID).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refusal::webroute_id("it has no WebRoute-ID"))?;
    if id.len() > MAX_ID {
        return Err(Refusal::webroute_id("its WebRoute-ID is too long"));
    }
    let meeting = Meeting { target: request.target.clone(), id: id.to_owned() };
    Ok(Route { meeting, timeout_s: timeout(request.fields.find(field::TIMEOUT)) })
}

/// What is no number, or not a sensible one, is as good as none.
fn timeout(text: Option<&str>) -> u64 {
    let seconds = text.and_then(|text| text.trim().parse().ok()).unwrap_or(TIMEOUT_S);
    if seconds == 0 { TIMEOUT_S } else { seconds.min(MAX_TIMEOUT_S) }
}

/// RFC 6455, section 4.2.1; like the original it wants an `Origin`.
fn handshake(request: &Request) -> Result<Handshake, Refusal> {
    let find = |name| request.fields.find(name).map(str::trim).filter(|text| !text.is_empty());
    if find("Sec-WebSocket-Version") != Some("13") {
        return Err(Refusal::websocket_version());
    }
    let key = find("Sec-WebSocket-Key").ok_or_else(Refusal::websocket_key)?.to_owned();
    if find("Origin").is_none() {
        return Err(Refusal::websocket_origin());
    }
    Ok(Handshake { key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remoted::head::{Fields, Request};

    fn request(target: &str, fields: &[(&str, &str)]) -> Request {
        let fields = Fields::from_pairs(fields.iter().copied());
        Request { method: "GET".to_owned(), target: target.to_owned(), fields }
    }

    fn keyring() -> Keyring {
        Keyring::parse(br#"{"server_apikey": "server", "client_apikey": "client"}"#).unwrap()
    }

    const WEBROUTE: [(&str, &str); 4] = [
        ("connection", "keep-alive, upgrade"),
        ("UPGRADE", "WebRoute"),
        ("webroute-version", "1"),
        ("webroute-id", "id"),
    ];

    fn route_of(fields: &[(&str, &str)]) -> Result<Route, Refusal> {
        let fields: Vec<_> = [&WEBROUTE[..], &[("x-remoted-apikey", "client")], fields].concat();
        match judge(&request("/p?q", &fields), &keyring()).map(|(_, wish)| wish) {
            Ok(Wish::Call(route)) => route,
            Ok(_) => panic!("no call"),
            Err(refusal) => Err(refusal),
        }
    }

    #[test]
    fn the_key_decides_whose_request_it_is() {
        let keyring = keyring();
        let judged = |key: &str, more: &[(&str, &str)]| {
            let fields = [&[("X-Remoted-APIKey", key)], more].concat();
            judge(&request("/p", &fields), &keyring).map(|(_, wish)| wish)
        };
        assert!(matches!(judged("server", &WEBROUTE), Ok(Wish::Join(_))));
        assert!(matches!(judged("client", &WEBROUTE), Ok(Wish::Call(Ok(_)))));
        // What a caller asks for counts only where somebody is registered.
        assert!(matches!(judged("client", &[]), Ok(Wish::Call(Err(_)))));
        let websocket = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        assert!(matches!(judged("server", &websocket), Ok(Wish::Register(Err(_)))));
        assert!(matches!(judged("client", &websocket), Ok(Wish::Call(Err(_)))));
        for wrong in ["", "Server", "server ", "serverr"] {
            assert!(judged(wrong, &WEBROUTE).is_err_and(|refusal| refusal.is_stranger));
        }
        assert!(judge(&request("/p", &WEBROUTE), &keyring).is_err());
    }

    #[test]
    fn the_target_counts_with_its_query_and_times_are_sensible() {
        let route = route_of(&[]).ok().unwrap();
        assert_eq!((route.meeting.target.as_str(), route.meeting.id.as_str()), ("/p?q", "id"));
        for (text, expected) in [
            ("7", 7),
            (" 3600 ", 3600),
            ("0", TIMEOUT_S),
            ("-1", TIMEOUT_S),
            ("1e3", TIMEOUT_S),
            ("99999999999999999999", TIMEOUT_S),
            ("9999999999", MAX_TIMEOUT_S),
        ] {
            let route = route_of(&[("WebRoute-Timeout", text)]).ok().unwrap();
            assert_eq!(route.timeout_s, expected, "{text}");
        }
    }
}
