//! Which header fields of a request are forwarded to the peer.
//!
//! In scope: dropping fields that belong to this connection (RFC 9110, section 7.6.1) or are
//! carried in another form. Not in scope: their syntax, which was validated with the head.

use crate::event::header;
use crate::http1::head::{ConnectionOptions, Field};

/// Fields that are not forwarded, besides the connection's own and those that `Connection` names.
/// `Host` is forwarded as [`FORWARDED_HOST`].
const OWN: [&str; 5] = ["content-type", "expect", "rp-wait", "rp-request-id", "host"];

/// The name under which the caller addressed this node, or the web server in front of it, which
/// then sends this field itself.
const FORWARDED_HOST: &str = "X-Forwarded-Host";

/// Adds the request's `Host`, unless a web server in front has added the one that it was sent.
pub(in crate::http) fn add_host(headers: &mut Vec<(String, String)>, host: Option<&str>) {
    if let Some(host) = host
        && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(FORWARDED_HOST))
    {
        headers.push((FORWARDED_HOST.to_owned(), host.to_owned()));
    }
}

/// The forwarded fields, in order.
pub(super) fn headers(
    fields: &[Field<'_>],
    connection: &ConnectionOptions<'_>,
) -> Vec<(String, String)> {
    // One extra for the `Host`.
    let mut headers = Vec::with_capacity(1 + fields.len());
    for field in fields {
        if is_not_forwarded(field.name) || connection.names(field.name) {
            continue;
        }
        headers.push((field.name.to_owned(), header::from_bytes(field.value).into_owned()));
    }
    headers
}

fn is_not_forwarded(name: &str) -> bool {
    header::is_hop_by_hop(name) || OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let fields: Vec<Field<'_>> =
            fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
        headers(&fields, &ConnectionOptions::of(&fields))
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_forwarded() {
        let stay = [
            ("HOST", "a"),
            ("Connection", "close, X-Named"),
            ("connection", "x-other ,"),
            ("X-Named", "1"),
            ("x-Other", "1"),
            ("Keep-Alive", "5"),
            ("Proxy-Connection", "close"),
            ("Proxy-Authorization", "secret"),
            ("TE", "trailers"),
            ("Trailer", "X"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("Content-Length", "5"),
            ("Content-Type", "a/b"),
            ("Expect", "100-continue"),
            ("RP-Wait", "5"),
            ("RP-Request-Id", "abc"),
        ];
        assert_eq!(forwarded(&stay), []);
        for (name, value) in stay {
            let asked = [("Accept", " */* "), (name, value), ("accept", "a/b\tc")];
            let expected = [("Accept", "*/*"), ("accept", "a/b\tc")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            if !name.contains("Named") && !name.contains("Other") {
                assert_eq!(forwarded(&asked), expected, "{name}");
            }
        }
    }
}
