//! What a broker tells a server of a caller: one text frame of JSON.

use std::fmt;
use std::net::SocketAddr;

use serde_json::Value;

/// Longest id that is repeated to the broker, in bytes. Ours have 64.
const MAX_ID: usize = 4096;
/// Longest address that is shown, in characters.
const MAX_ADDRESS: usize = 64;
/// What counts where the broker says nothing, in seconds.
const DEFAULT_TIMEOUT_S: u64 = 60;
/// The longest idle limit that is repeated, in seconds: ten years. Whatever is longer is a slip.
const MAX_TIMEOUT_S: u64 = 10 * 366 * 24 * 3600;

/// A caller waits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// Where it connects from, as the broker writes it; for showing.
    pub shown: String,
    /// The same, where it is an address with its port.
    pub address: Option<SocketAddr>,
    /// What its WebRoute and ours have in common. It can stand in a header.
    pub id: String,
    /// The idle limit to ask for, in seconds.
    pub timeout_s: u64,
}

/// Why a text is no notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoticeError {
    /// It is not what a broker says: the connection is not worth keeping.
    Nonsense(&'static str),
    /// A caller chose an id that no header can carry. It cannot be served, others can.
    Id(&'static str),
}

impl fmt::Display for NoticeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nonsense(why) | Self::Id(why) => f.write_str(why),
        }
    }
}

impl Notice {
    /// `{"ipaddr":"127.0.0.1:32828","id":"Zw1B...","timeout":60}`; further members are passed over.
    pub fn parse(text: &str) -> Result<Self, NoticeError> {
        let json: Value = serde_json::from_str(text)
            .map_err(|_| NoticeError::Nonsense("a message that is no JSON"))?;
        let text = |name| json.get(name).and_then(Value::as_str);
        let id = text("id").ok_or(NoticeError::Nonsense("a message without an id"))?;
        if id.is_empty() || id.len() > MAX_ID {
            return Err(NoticeError::Id("an id that is empty or over 4096 bytes"));
        }
        if !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoticeError::Id("an id that no header can carry"));
        }
        let address = text("ipaddr").unwrap_or("an unknown address");
        let timeout_s = json.get("timeout").and_then(Value::as_u64).unwrap_or(DEFAULT_TIMEOUT_S);
        Ok(Self {
            shown: address.chars().filter(|c| !c.is_control()).take(MAX_ADDRESS).collect(),
            address: address.parse().ok(),
            id: id.to_owned(),
            timeout_s: timeout_s.clamp(1, MAX_TIMEOUT_S),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_notice_is_read() {
        let notice =
            Notice::parse(r#"{"ipaddr":"127.0.0.1:32828","id":"Zw1B","timeout":60}"#).ok().unwrap();
        assert_eq!(notice.address, Some(SocketAddr::from(([127, 0, 0, 1], 32828))));
        assert_eq!((notice.shown.as_str(), notice.id.as_str()), ("127.0.0.1:32828", "Zw1B"));
        assert_eq!(notice.timeout_s, 60);
        let notice =
            Notice::parse(r#"{"id":"a","timeout":1e99,"ipaddr":"x\ny","n":[]}"#).ok().unwrap();
        assert_eq!((notice.shown.as_str(), notice.address, notice.timeout_s), ("xy", None, 60));
        let timeout = |n: &str| {
            let text = format!(r#"{{"id":"a","timeout":{n}}}"#);
            Notice::parse(&text).ok().unwrap().timeout_s
        };
        assert_eq!(
            (timeout("0"), timeout("-5"), timeout("18446744073709551615")),
            (1, 60, MAX_TIMEOUT_S)
        );
    }

    #[test]
    fn nonsense_and_an_id_that_cannot_be_sent_are_told_apart() {
        for text in ["", "x", "[]", "{}", "null", r#"{"id":7}"#, &"[".repeat(100_000)] {
            assert!(matches!(Notice::parse(text).err(), Some(NoticeError::Nonsense(_))));
        }
        let long = "x".repeat(MAX_ID + 1);
        for id in ["", "a b", "a\\r\\nX-Evil: 1", "\\u00e9", &long] {
            let error = Notice::parse(&format!(r#"{{"id":"{id}"}}"#)).err();
            assert!(matches!(error, Some(NoticeError::Id(_))), "{id}");
        }
    }
}
