//! The notice of a caller, sent by the broker to the path's server: one text frame of JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The longest id that is sent back to the broker, in bytes. Ours have 64.
const MAX_ID: usize = 4096;
/// The longest address that is shown, in characters.
const MAX_ADDRESS: usize = 64;
/// The timeout if the broker sends none, in seconds.
const DEFAULT_TIMEOUT_S: u64 = 60;
/// The longest idle limit that is requested, in seconds: ten years. Anything longer is a mistake.
const MAX_TIMEOUT_S: u64 = 10 * 366 * 24 * 3600;

/// A notice: a caller waits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CallerNotice {
    /// The caller's address as the broker writes it; for the log.
    pub shown: String,
    /// The same, parsed, if it is an address and port.
    pub address: Option<SocketAddr>,
    /// The id shared by its WebRoute and ours. It is valid in a header.
    pub id: String,
    /// The idle limit to request, in seconds.
    pub timeout_s: u64,
}

/// The message: `{"ipaddr":"127.0.0.1:32828","id":"Zw1B...","timeout":60}`. Unknown members are ignored.
#[derive(Serialize, Deserialize)]
struct NoticeMessage {
    #[serde(default, deserialize_with = "if_valid")]
    ipaddr: Option<String>,
    id: String,
    /// In seconds.
    #[serde(default, deserialize_with = "if_valid")]
    timeout: Option<u64>,
}

/// A value of another type counts as missing.
fn if_valid<'de, D: Deserializer<'de>, T: for<'any> Deserialize<'any>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(T::deserialize(Value::deserialize(deserializer)?).ok())
}

/// Why a text is not a usable notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoticeError {
    /// No broker sends this: the connection is not worth keeping.
    #[error("{0}")]
    Malformed(&'static str),
    /// A caller chose an id that no header can carry. Only this caller cannot be served.
    #[error("{0}")]
    UnusableId(&'static str),
}

impl CallerNotice {
    /// Parses the message of a broker.
    pub fn parse(text: &str) -> Result<Self, NoticeError> {
        let members: Map<String, Value> = serde_json::from_str(text)
            .map_err(|_| NoticeError::Malformed("a message that is no JSON object"))?;
        let NoticeMessage { ipaddr, id, timeout } = NoticeMessage::deserialize(members)
            .map_err(|_| NoticeError::Malformed("a message without an id"))?;
        if id.is_empty() || id.len() > MAX_ID {
            return Err(NoticeError::UnusableId("an id that is empty or over 4096 bytes"));
        }
        if !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoticeError::UnusableId("an id that no header can carry"));
        }
        let address = ipaddr.as_deref().unwrap_or("an unknown address");
        Ok(Self {
            shown: address.chars().filter(|c| !c.is_control()).take(MAX_ADDRESS).collect(),
            address: address.parse().ok(),
            id,
            timeout_s: timeout.unwrap_or(DEFAULT_TIMEOUT_S).clamp(1, MAX_TIMEOUT_S),
        })
    }
}

/// Formats the message of a broker about a caller.
pub(super) fn message(ipaddr: String, id: String, timeout_s: u64) -> String {
    let message = NoticeMessage { ipaddr: Some(ipaddr), id, timeout: Some(timeout_s) };
    serde_json::to_string(&message).expect("two texts and a number can be JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_notice_is_read() {
        let notice =
            CallerNotice::parse(r#"{"ipaddr":"127.0.0.1:32828","id":"Zw1B","timeout":60}"#)
                .ok()
                .unwrap();
        assert_eq!(notice.address, Some(SocketAddr::from(([127, 0, 0, 1], 32828))));
        assert_eq!((notice.shown.as_str(), notice.id.as_str()), ("127.0.0.1:32828", "Zw1B"));
        assert_eq!(notice.timeout_s, 60);
        let notice = CallerNotice::parse(r#"{"id":"a","timeout":1e99,"ipaddr":"x\ny","n":[]}"#)
            .ok()
            .unwrap();
        assert_eq!((notice.shown.as_str(), notice.address, notice.timeout_s), ("xy", None, 60));
        let timeout = |n: &str| {
            let text = format!(r#"{{"id":"a","timeout":{n}}}"#);
            CallerNotice::parse(&text).ok().unwrap().timeout_s
        };
        assert_eq!(
            (timeout("0"), timeout("-5"), timeout("18446744073709551615")),
            (1, 60, MAX_TIMEOUT_S)
        );
    }

    #[test]
    fn a_malformed_message_and_an_id_that_cannot_be_sent_are_different_errors() {
        for text in
            ["", "x", "[]", "{}", "null", r#"["a:1","x",60]"#, r#"{"id":7}"#, &"[".repeat(100_000)]
        {
            assert!(matches!(CallerNotice::parse(text).err(), Some(NoticeError::Malformed(_))));
        }
        let long = "x".repeat(MAX_ID + 1);
        for id in ["", "a b", "a\\r\\nX-Evil: 1", "\\u00e9", &long] {
            let error = CallerNotice::parse(&format!(r#"{{"id":"{id}"}}"#)).err();
            assert!(matches!(error, Some(NoticeError::UnusableId(_))), "{id}");
        }
    }

    #[test]
    fn a_broker_writes_what_a_server_reads() {
        let text = message("127.0.0.1:32828".to_owned(), "Zw1B".to_owned(), 60);
        assert_eq!(text, r#"{"ipaddr":"127.0.0.1:32828","id":"Zw1B","timeout":60}"#);
    }
}
