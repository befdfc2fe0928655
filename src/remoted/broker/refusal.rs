//! How a broker refuses requests: the original's statuses, fields and bodies.

use serde_json::json;

/// A response instead of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokerRefusal {
    status: &'static str,
    fields: &'static str,
    /// Text for people and a code for programs.
    body: Option<(&'static str, &'static str)>,
    /// Whether another request may follow on the same connection.
    pub keeps_open: bool,
    /// The peer has shown no valid key: anybody can cause any number of these.
    pub is_stranger: bool,
    /// For the log.
    pub reason: String,
}

impl BrokerRefusal {
    /// No key, a wrong one, or one that is not valid for this path.
    pub fn key(reason: &str) -> Self {
        const ERROR: &str = "Invalid or missing 'X-Remoted-APIKey' header.";
        let refusal = Self::json("403 Forbidden", ERROR, "invalid_missing_apikey", reason);
        Self { is_stranger: true, ..refusal }
    }

    /// No server is registered on the path.
    pub fn no_destination() -> Self {
        const ERROR: &str = "Requested destination does not exist at this time.";
        Self::json("502 Bad Gateway", ERROR, "missing_destination", "nobody is registered there")
    }

    /// A caller requests something other than WebRoute.
    pub fn caller(reason: &str) -> Self {
        const ERROR: &str = "Invalid request.  Expected WebRoute upgrade.";
        Self::json("400 Bad Request", ERROR, "invalid_request", reason)
    }

    /// A server requests neither WebSocket nor WebRoute, or something it cannot have.
    pub fn server(reason: &str) -> Self {
        const ERROR: &str = "Invalid request.  Expected WebSocket or WebRoute upgrade.";
        Self::json("400 Bad Request", ERROR, "invalid_request", reason)
    }

    /// A bound is reached. The original has no bounds, and so no response for this.
    pub fn full(reason: &str) -> Self {
        const ERROR: &str = "Too many connections at this time.";
        Self::json("503 Service Unavailable", ERROR, "too_many", reason)
    }

    /// The key has its share of all connections.
    pub fn key_full() -> Self {
        let refusal = Self::full("too many connections are open with its key");
        Self { keeps_open: false, ..refusal }
    }

    /// Another version of WebRoute.
    pub fn webroute_version() -> Self {
        let fields = "WebRoute-Version: 1\r\n";
        Self::bare("426 Upgrade Required", fields, true, "its WebRoute-Version is not 1")
    }

    /// WebRoute without a valid id.
    pub fn webroute_id(reason: &str) -> Self {
        Self::bare("400 Bad Request", "", true, reason)
    }

    /// The server did not come for its caller.
    pub fn unanswered() -> Self {
        let fields = "WebRoute-Version: 1\r\n";
        Self::bare("504 Gateway Timeout", fields, false, "the server was notified and did not come")
    }

    /// Another version of WebSocket.
    pub fn websocket_version() -> Self {
        let fields = "Sec-WebSocket-Version: 13\r\n";
        Self::bare("426 Upgrade Required", fields, false, "its Sec-WebSocket-Version is not 13")
    }

    /// A WebSocket without `Sec-WebSocket-Key`.
    pub fn websocket_key() -> Self {
        Self::bare("400 Bad Request", "", false, "it has no Sec-WebSocket-Key")
    }

    /// A WebSocket without an `Origin`.
    pub fn websocket_origin() -> Self {
        Self::bare("403 Forbidden", "", false, "it has no Origin")
    }

    /// Not an HTTP request.
    pub fn malformed(reason: String) -> Self {
        Self { reason, ..Self::bare("400 Bad Request", "", false, "") }
    }

    /// A request that is too large.
    pub fn too_large(reason: String) -> Self {
        Self { reason, ..Self::bare("431 Request Header Fields Too Large", "", false, "") }
    }

    /// A request that takes too long.
    pub fn too_slow(reason: String) -> Self {
        Self { reason, ..Self::bare("408 Request Timeout", "", false, "") }
    }

    fn json(status: &'static str, error: &'static str, code: &'static str, reason: &str) -> Self {
        Self { body: Some((error, code)), ..Self::bare(status, "", true, reason) }
    }

    fn bare(status: &'static str, fields: &'static str, keeps_open: bool, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { status, fields, body: None, keeps_open, is_stranger: false, reason }
    }

    /// The whole response; to HEAD, only its head.
    pub fn answer(&self, to_head: bool) -> Vec<u8> {
        const NO_CACHE: &str = "Cache-Control: no-store, no-cache, must-revalidate, max-age=0\r\n\
            Pragma: no-cache\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        let Self { status, fields, .. } = self;
        let connection = if self.keeps_open { "keep-alive" } else { "close" };
        let mut body = self.body.map_or(String::new(), |(error, code)| {
            json!({"success": false, "error": error, "errorcode": code}).to_string()
        });
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let no_cache = if body.is_empty() { "" } else { NO_CACHE };
        let length = body.len();
        if to_head {
            body.clear();
        }
        format!(
            "HTTP/1.1 {status}\r\n{fields}{kind}Content-Length: {length}\r\n{no_cache}\
             Connection: {connection}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_originals_byte_for_byte() {
        let cases = [
            (
                BrokerRefusal::key(""),
                "403",
                r#"{"success":false,"error":"Invalid or missing 'X-Remoted-APIKey' header.","errorcode":"invalid_missing_apikey"}"#,
            ),
            (
                BrokerRefusal::no_destination(),
                "502",
                r#"{"success":false,"error":"Requested destination does not exist at this time.","errorcode":"missing_destination"}"#,
            ),
            (
                BrokerRefusal::caller(""),
                "400",
                r#"{"success":false,"error":"Invalid request.  Expected WebRoute upgrade.","errorcode":"invalid_request"}"#,
            ),
            (
                BrokerRefusal::server(""),
                "400",
                r#"{"success":false,"error":"Invalid request.  Expected WebSocket or WebRoute upgrade.","errorcode":"invalid_request"}"#,
            ),
        ];
        for (refusal, status, body) in cases {
            let answer = String::from_utf8(refusal.answer(false)).unwrap();
            let (head, found) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(found, body);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            for field in [
                &format!("Content-Length: {}", body.len()),
                "Content-Type: application/json",
                "Cache-Control: no-store",
                "Connection: keep-alive",
            ] {
                assert!(head.contains(&format!("\r\n{field}")), "{head}");
            }
            let to_head = String::from_utf8(refusal.answer(true)).unwrap();
            assert_eq!(to_head, format!("{head}\r\n\r\n"));
        }
        let answer = String::from_utf8(BrokerRefusal::unanswered().answer(false)).unwrap();
        assert_eq!(
            answer,
            "HTTP/1.1 504 Gateway Timeout\r\nWebRoute-Version: 1\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
    }
}
