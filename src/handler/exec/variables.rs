//! The environment of a script, which contains only these variables.

use std::borrow::Cow;

use super::body_proof;
use crate::event::{Event, header};
use crate::handler::Context;
use crate::process::program::PATH;

/// The variables about the event itself.
pub(super) const NAMES: [&str; 8] = [
    "RP_VERB",
    "RP_NOUN",
    "RP_PEER_NAME",
    "RP_PEER_FINGERPRINT",
    "RP_REQUEST_ID",
    "RP_CONTENT_TYPE",
    "RP_CONTENT_LENGTH",
    body_proof::VARIABLE,
];
/// Prefix of the variables for query fields.
const QUERY: &str = "RP_QUERY_";

/// The complete environment but for `RP_BODY_END`, which each run adds; its size is bounded by the
/// limits on targets. Fails with the name of a variable whose value contains a NUL.
pub(super) fn of(context: &Context, event: &Event) -> Result<Vec<(String, String)>, String> {
    let media_type = as_text(&event.media_type);
    let length = event.body.length().map_or_else(String::new, |length| length.to_string());
    let values = [
        event.verb.as_str(),
        event.target.noun(),
        &context.peer.name,
        &context.peer.fingerprint,
        context.request_id.as_str(),
        &media_type,
        &length,
    ];
    let mut variables = vec![("PATH".to_owned(), PATH.to_owned())];
    variables.extend(
        NAMES.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    for (field, value) in event.target.query() {
        if field.is_empty() {
            continue;
        }
        let name = query_name(field);
        if !variables.iter().any(|(taken, _)| *taken == name) {
            variables.push((name, value.clone()));
        }
    }
    match variables.iter().find(|(_, value)| value.contains('\0')) {
        Some((name, _)) => Err(name.clone()),
        None => Ok(variables),
    }
}

/// A header's value as the text that its bytes are, if they are UTF-8.
fn as_text(value: &str) -> Cow<'_, str> {
    if value.is_ascii() {
        return Cow::Borrowed(value);
    }
    let bytes = header::to_bytes(value).map(Cow::into_owned).unwrap_or_default();
    String::from_utf8(bytes).map_or(Cow::Borrowed(value), Cow::Owned)
}

/// Replaces every character that a shell variable cannot contain with an underscore.
fn query_name(field: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let reduced = field.chars().map(|c| if is_kept(c) { c } else { '_' });
    QUERY.chars().chain(reduced).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::event::{RequestId, Verb};
    use crate::handler::{PeerIdentity, Role};

    fn variables(target: &str) -> Result<Vec<(String, String)>, String> {
        let peer = PeerIdentity {
            name: "web-1".into(),
            fingerprint: "ab".into(),
            address: Ipv4Addr::LOCALHOST.into(),
        };
        let mut event = Event::new(Verb::Put, target).unwrap();
        event.media_type = "text/plain".into();
        let context = Context {
            role: Role::Server,
            peer: Arc::new(peer),
            request_id: RequestId::parse("r-1").unwrap(),
            cancelled: Arc::default(),
        };
        of(&context, &event)
    }

    fn query(text: &str) -> Vec<(String, String)> {
        let mut all = variables(&format!("time/utc?{text}")).unwrap();
        // `PATH` comes first, and `RP_BODY_END` is not among them.
        all.split_off(NAMES.len())
    }

    #[test]
    fn the_event_is_described() {
        let shown: Vec<String> =
            variables("time/utc//a").unwrap().iter().map(|(n, v)| format!("{n}={v}")).collect();
        let expected = [
            "RP_VERB=put",
            "RP_NOUN=time/utc",
            "RP_PEER_NAME=web-1",
            "RP_PEER_FINGERPRINT=ab",
            "RP_REQUEST_ID=r-1",
            "RP_CONTENT_TYPE=text/plain",
            "RP_CONTENT_LENGTH=0",
        ];
        assert_eq!(shown[1..], expected);
    }

    #[test]
    fn a_media_type_is_text_where_its_bytes_are() {
        for (value, text) in
            [("a/b", "a/b"), ("a; n=Z\u{c3}\u{bc}rich", "a; n=Zürich"), ("a\u{fc}", "a\u{fc}")]
        {
            assert_eq!(as_text(value), text);
        }
    }

    #[test]
    fn names_of_fields_become_names_of_variables() {
        let pair = |name: &str, value: &str| (format!("RP_QUERY_{name}"), value.to_owned());
        assert_eq!(query("name=a+b&Flag"), [pair("name", "a b"), pair("Flag", "")]);
        assert_eq!(query("a.b=1&a-b=2&a_b=3&a_b=4"), [pair("a_b", "1")], "the first counts");
        assert_eq!(query("=x&%00%3d%0a%C3%A4=y"), [pair("____", "y")]);
        assert_eq!(query("PATH=/tmp&1=one"), [pair("PATH", "/tmp"), pair("1", "one")]);
    }

    #[test]
    fn every_character_makes_one_variable_at_most() {
        for byte in 0..=127_u8 {
            let found = query(&format!("a%{byte:02x}b=v%{:02x}w", byte.max(1)));
            assert_eq!(found.len(), 1);
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(found[0].0.chars().all(is_name), "{found:?}");
            assert_eq!(found[0].1, format!("v{}w", char::from(byte.max(1))));
        }
    }

    #[test]
    fn a_nul_is_told_by_the_name_of_its_variable() {
        assert_eq!(variables("x?a=%00"), Err("RP_QUERY_a".to_owned()));
        assert_eq!(variables("x%00"), Err("RP_NOUN".to_owned()));
    }
}
