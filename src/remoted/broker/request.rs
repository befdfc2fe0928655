//! Classifies a request by its head and its key alone.
//!
//! In scope: the rules of the protocol, without sockets. Not in scope: whether the path is taken or the
//! id known.

use std::sync::Arc;

use super::refusal::BrokerRefusal;
use crate::remoted::head::{UpgradeRequest, field};
use crate::remoted::keys::{KeyEntry, KeyRole, Keyring};

/// The longest id, in bytes; the original's have 64 characters.
const MAX_ID: usize = 4096;
/// The longest `WebRoute-Timeout`, in seconds: a year.
const MAX_TIMEOUT_S: u64 = 366 * 86_400;
/// The timeout if none is sent, and the shortest one in a notice.
pub(super) const DEFAULT_TIMEOUT_S: u64 = 60;

/// Shared by a caller and its server: the target as sent, with its query, and the id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct RendezvousId {
    pub target: String,
    pub id: String,
}

/// What a request with a valid key asks for.
pub(super) enum Intent {
    /// A server that wants notices of callers.
    Register(Result<Handshake, BrokerRefusal>),
    /// A server that wants to be joined with a caller.
    Join(WebRoute),
    /// A caller that wants to be joined with a server. Its request is checked only if one is registered.
    Call(Result<WebRoute, BrokerRefusal>),
}

/// The handshake of a WebSocket.
pub(super) struct Handshake {
    /// Its `Sec-WebSocket-Key`.
    pub key: String,
}

/// A WebRoute.
pub(super) struct WebRoute {
    pub rendezvous: RendezvousId,
    /// `WebRoute-Timeout`, in seconds.
    pub timeout_s: u64,
    /// It keeps bytes that arrive together with its 101.
    pub keeps_early: bool,
}

/// Finds the key of a request and what the request asks for.
pub(super) fn classify(
    request: &UpgradeRequest,
    keyring: &Keyring,
) -> Result<(Arc<KeyEntry>, Intent), BrokerRefusal> {
    let shown =
        request.fields.find(field::KEY).ok_or_else(|| BrokerRefusal::key("it shows no key"))?;
    let key = keyring.find(shown).ok_or_else(|| BrokerRefusal::key("its key is none of ours"))?;
    if !key.covers(request.path()) {
        let reason = format!("its key, {}, is not for this path", key.name());
        return Err(BrokerRefusal::key(&reason));
    }
    let intent = match key.role() {
        KeyRole::Client => Intent::Call(call(request, key.name())),
        KeyRole::Server if request.upgrades_to("websocket") => Intent::Register(handshake(request)),
        KeyRole::Server if request.upgrades_to("webroute") => Intent::Join(route(request)?),
        KeyRole::Server => {
            return Err(BrokerRefusal::server("a server asked for neither WebSocket nor WebRoute"));
        }
    };
    Ok((Arc::clone(key), intent))
}

fn call(request: &UpgradeRequest, key: &str) -> Result<WebRoute, BrokerRefusal> {
    if request.upgrades_to("websocket") {
        let reason = format!("it asks to register a path, and its key, {key}, is one of callers");
        return Err(BrokerRefusal::caller(&reason));
    }
    if !request.upgrades_to("webroute") {
        return Err(BrokerRefusal::caller("a caller asked for something else than WebRoute"));
    }
    route(request)
}

fn route(request: &UpgradeRequest) -> Result<WebRoute, BrokerRefusal> {
    if request.fields.find(field::VERSION).is_none_or(|version| version.trim() != "1") {
        return Err(BrokerRefusal::webroute_version());
    }
    let id = request.fields.find(field::ID).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| BrokerRefusal::webroute_id("it has no WebRoute-ID"))?;
    if id.len() > MAX_ID {
        return Err(BrokerRefusal::webroute_id("its WebRoute-ID is too long"));
    }
    let rendezvous = RendezvousId { target: request.target.clone(), id: id.to_owned() };
    let timeout_s = timeout(request.fields.find(field::TIMEOUT));
    let keeps_early = request.fields.has_token(field::EARLY, field::KEPT);
    Ok(WebRoute { rendezvous, timeout_s, keeps_early })
}

/// Anything but a positive number counts as missing.
fn timeout(text: Option<&str>) -> u64 {
    let seconds = text.and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_TIMEOUT_S);
    if seconds == 0 { DEFAULT_TIMEOUT_S } else { seconds.min(MAX_TIMEOUT_S) }
}

/// RFC 6455, section 4.2.1; like the original it requires an `Origin`.
fn handshake(request: &UpgradeRequest) -> Result<Handshake, BrokerRefusal> {
    let find = |name| request.fields.find(name).map(str::trim).filter(|text| !text.is_empty());
    if find("Sec-WebSocket-Version") != Some("13") {
        return Err(BrokerRefusal::websocket_version());
    }
    let key = find("Sec-WebSocket-Key").ok_or_else(BrokerRefusal::websocket_key)?.to_owned();
    if find("Origin").is_none() {
        return Err(BrokerRefusal::websocket_origin());
    }
    Ok(Handshake { key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remoted::head::{Fields, UpgradeRequest};

    fn request(target: &str, fields: &[(&str, &str)]) -> UpgradeRequest {
        let fields = Fields::from_pairs(fields.iter().copied());
        UpgradeRequest { method: "GET".to_owned(), target: target.to_owned(), fields }
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

    fn route_of(fields: &[(&str, &str)]) -> Result<WebRoute, BrokerRefusal> {
        let fields: Vec<_> = [&WEBROUTE[..], &[("x-remoted-apikey", "client")], fields].concat();
        match classify(&request("/p?q", &fields), &keyring()).map(|(_, intent)| intent) {
            Ok(Intent::Call(route)) => route,
            Ok(_) => panic!("no call"),
            Err(refusal) => Err(refusal),
        }
    }

    #[test]
    fn the_key_decides_what_a_request_is() {
        let keyring = keyring();
        let classified = |key: &str, more: &[(&str, &str)]| {
            let fields = [&[("X-Remoted-APIKey", key)], more].concat();
            classify(&request("/p", &fields), &keyring).map(|(_, intent)| intent)
        };
        assert!(matches!(classified("server", &WEBROUTE), Ok(Intent::Join(_))));
        assert!(matches!(classified("client", &WEBROUTE), Ok(Intent::Call(Ok(_)))));
        // A caller's request is checked only if a server is registered.
        assert!(matches!(classified("client", &[]), Ok(Intent::Call(Err(_)))));
        let websocket = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        assert!(matches!(classified("server", &websocket), Ok(Intent::Register(Err(_)))));
        assert!(matches!(classified("client", &websocket), Ok(Intent::Call(Err(_)))));
        for wrong in ["", "Server", "server ", "serverr"] {
            assert!(classified(wrong, &WEBROUTE).is_err_and(|refusal| refusal.is_stranger));
        }
        assert!(classify(&request("/p", &WEBROUTE), &keyring).is_err());
    }

    #[test]
    fn the_target_includes_its_query_and_timeouts_are_limited() {
        let route = route_of(&[]).ok().unwrap();
        assert_eq!(
            (route.rendezvous.target.as_str(), route.rendezvous.id.as_str()),
            ("/p?q", "id")
        );
        for (text, expected) in [
            ("7", 7),
            (" 3600 ", 3600),
            ("0", DEFAULT_TIMEOUT_S),
            ("-1", DEFAULT_TIMEOUT_S),
            ("1e3", DEFAULT_TIMEOUT_S),
            ("99999999999999999999", DEFAULT_TIMEOUT_S),
            ("9999999999", MAX_TIMEOUT_S),
        ] {
            let route = route_of(&[("WebRoute-Timeout", text)]).ok().unwrap();
            assert_eq!(route.timeout_s, expected, "{text}");
        }
    }
}
