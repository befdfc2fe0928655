//! Writes heads. No text may contain a line break: they come from parsed URLs, parsed heads and
//! files of keys, which reject them.

use super::{field, webroute_accept, websocket_accept};

/// The target of an upgrade request.
#[derive(Clone, Copy)]
pub struct Upgrade<'a> {
    /// Host, and port unless it is the scheme's default.
    pub host: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// The key of a server or a caller.
    pub key: &'a str,
}

/// A caller, or a server for a caller, asks to be joined with the peer of this id. A server also says that it
/// keeps bytes that arrive together with its 101.
pub fn webroute_request(
    to: &Upgrade<'_>,
    id: &str,
    timeout_s: Option<u64>,
    is_server: bool,
) -> Vec<u8> {
    let Upgrade { host, path, key } = to;
    let timeout = timeout_s.map_or(String::new(), |s| format!("{}: {s}\r\n", field::TIMEOUT));
    let early =
        if is_server { format!("{}: {}\r\n", field::EARLY, field::KEPT) } else { String::new() };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: webroute\r\n{}: 1\r\n{}: {id}\r\n{timeout}{early}{}: {key}\r\n\r\n",
        field::VERSION,
        field::ID,
        field::KEY,
    )
    .into_bytes()
}

/// A server requests notices of callers. `nonce` is 16 random bytes in Base64 (RFC 6455, section 4.1).
pub fn websocket_request(to: &Upgrade<'_>, origin: &str, nonce: &str) -> Vec<u8> {
    let Upgrade { host, path, key } = to;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nOrigin: {origin}\r\nSec-WebSocket-Key: {nonce}\r\n\
         Sec-WebSocket-Version: 13\r\n{}: {key}\r\n\r\n",
        field::KEY,
    )
    .into_bytes()
}

/// The response to both sides of a WebRoute.
pub fn webroute_accepted(id: &str) -> Vec<u8> {
    accepted("webroute", field::ACCEPT, &webroute_accept(id))
}

/// The response to a WebSocket with this `Sec-WebSocket-Key`.
pub fn websocket_accepted(key: &str) -> Vec<u8> {
    accepted("websocket", "Sec-WebSocket-Accept", &websocket_accept(key))
}

fn accepted(protocol: &str, name: &str, value: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\n\
         {name}: {value}\r\n\r\n"
    )
    .into_bytes()
}
