//! Routing: every path of the port is checked and resolved here.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use crate::event::dots::has_dot_segment;
use crate::event::errors;
use crate::event::peer::Role;
use crate::event::pipe::Peer;
use crate::http::refusal::Refusal;

/// Maximum length of a client's name in a path, in bytes after decoding (RFC 1035's limit for a
/// name).
const MAX_HOST: usize = 255;

/// The destination of a path, and the rest of the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PeerRoute<'a> {
    /// The peer.
    pub destination: Destination,
    /// `NOUN[//P1/...][?query]`, as sent.
    pub rest: &'a str,
}

/// An owned [`Peer`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// The server.
    Server,
    /// A client, as named in the path.
    Client(String),
}

impl Destination {
    /// The borrowed form, for the pipe.
    pub fn peer(&self) -> Peer<'_> {
        match self {
            Self::Server => Peer::Server,
            Self::Client(name) => Peer::Client(name),
        }
    }

    /// The name for log lines.
    pub fn name(&self) -> &str {
        match self {
            Self::Server => "server",
            Self::Client(name) => name,
        }
    }
}

/// Refuses a path that a web server in front may have read as another one. nginx decides on the
/// path decoded, without doubled slashes, and with `.` and `..` resolved, but passes on the path as
/// it was sent.
///
/// A doubled slash is refused only where this port would not read it as the server does: behind the
/// client's name it begins the parameters, and all segments stay in their order.
pub(super) fn check(path: &str) -> Result<(), Refusal> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let bad = |message| Err(Refusal::new(errors::BAD_PATH, message));
    if has_dot_segment(&Cow::from(percent_decode_str(path))) {
        return bad("the path has a segment . or .., or one that could be read so");
    }
    if path.starts_with("//") {
        return bad("the path begins with two slashes");
    }
    Ok(())
}

/// Resolves a path, including its query, for a node of this role.
pub(super) fn find(role: Role, path: &str) -> Result<PeerRoute<'_>, Refusal> {
    match role {
        Role::Server => {
            if let Some(rest) = path.strip_prefix("/client/") {
                return client(rest);
            }
        }
        Role::Client => {
            if let Some(rest) = path.strip_prefix("/server/") {
                return Ok(PeerRoute { destination: Destination::Server, rest });
            }
        }
    }
    let form = match role {
        Role::Server => "/client/HOST/NOUN[//PARAMETER/...][?query]",
        Role::Client => "/server/NOUN[//PARAMETER/...][?query]",
    };
    let message = format!("no such path; this is a {}, its paths are {form}", role.as_str());
    Err(Refusal::new(errors::UNKNOWN_PATH, message))
}

fn client(rest: &str) -> Result<PeerRoute<'_>, Refusal> {
    let bad = |message: &str| Refusal::new(errors::BAD_PATH, message);
    let (host, rest) = match rest.find(['/', '?']) {
        Some(end) if rest[end..].starts_with('/') => (&rest[..end], &rest[end + 1..]),
        _ => return Err(bad("the path names a client but no noun: /client/HOST/NOUN")),
    };
    let host = percent_decode_str(host)
        .decode_utf8()
        .map_err(|_| bad("the client's name is not UTF-8 once decoded"))?;
    // An IPv6 address may be in brackets, as in a URL. A name in them would be the same client under a
    // name that a web server in front does not know.
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
        Some(_) => return Err(bad("what is in brackets is not an IPv6 address")),
        None => &host,
    };
    if host.is_empty() || host.len() > MAX_HOST {
        return Err(bad("the client's name must have 1 to 255 bytes"));
    }
    if host.chars().any(char::is_control) {
        return Err(bad("the client's name has a control character"));
    }
    // Decoded by a web server in front, it ends the name there.
    if host.contains(['/', '\\']) {
        return Err(bad("the client's name has an encoded slash or a backslash"));
    }
    Ok(PeerRoute { destination: Destination::Client(host.to_owned()), rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_route(path: &str) -> Result<(String, &str), u16> {
        match find(Role::Server, path) {
            Ok(PeerRoute { destination: Destination::Client(name), rest }) => Ok((name, rest)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.status),
        }
    }

    #[test]
    fn a_server_asks_clients_by_name() {
        let long = "x".repeat(255);
        let cases = [
            ("/client/web7/time", Ok(("web7", "time"))),
            ("/client/a%20b/cat//x%2Fy/z?q=/", Ok(("a b", "cat//x%2Fy/z?q=/"))),
            ("/client/%5B::1%5D/time", Ok(("::1", "time"))),
            ("/client/2001:db8::1/time", Ok(("2001:db8::1", "time"))),
            ("/client/web7/", Ok(("web7", ""))),
            (&format!("/client/{long}/time"), Ok((&long, "time"))),
            (&format!("/client/{long}x/time"), Err(400)),
            ("/client/web7", Err(400)),
            ("/client/web7?a/b", Err(400)),
            ("/client//time", Err(400)),
            ("/client/[::ffff:192.0.2.1]/time", Ok(("::ffff:192.0.2.1", "time"))),
            ("/client/[web7]/time", Err(400)),
            ("/client/%5Bweb7%5d/time", Err(400)),
            ("/client/[192.0.2.1]/time", Err(400)),
            ("/client/[[::1]]/time", Err(400)),
            ("/client/[]/time", Err(400)),
            ("/client/%ff/time", Err(400)),
            ("/client/a%0Ab/time", Err(400)),
            ("/client/a%2Fb/time", Err(400)),
            ("/client/a%5cb/time", Err(400)),
            ("/client/a\\b/time", Err(400)),
            ("/client", Err(404)),
            ("/Client/a/b", Err(404)),
            ("/server/time", Err(404)),
            ("/", Err(404)),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|(name, rest): (&str, &str)| (name.to_owned(), rest));
            assert_eq!(client_route(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_that_a_web_server_reads_as_another_is_refused() {
        for path in [
            "/client/victim/cat//../../../client/other/x",
            "/client/a/../b/time",
            "/client/a/..",
            "/client/a/./time",
            "/client/./time",
            "/client/%2e/time",
            "/client/a/%2e%2e/b/time",
            "/client/a/.%2E/b/time",
            "/client/a/%2e./b/time",
            "/client/a%2f..%2fb/time",
            "/client/a/x%2F%2e%2e%2Fy",
            "/client/a/x%2f./y",
            "/client/a/x\\..\\y",
            "/client/a/x%5c..%5Cy",
            "/client/a/x%5c%2e%2e",
            "/client/a/..;/b/time",
            "/client/a/..;x=y/b/time",
            "/client/a/%2e%2e%3bx/b/time",
            "/client/a/..%00/b",
            "/client/a/..%20/b",
            "/server/../metrics",
            "/status/clients/..",
            "//client/a/time",
            "//",
            "/../status?x",
        ] {
            let refusal = check(path).expect_err(path);
            assert_eq!((refusal.status, refusal.error), (400, "bad_path"), "{path}");
        }
        for path in [
            "/",
            "/client/a/cat//hello%20/world",
            "/client/a/cat//b%2Fc///d/",
            "/client/a/file//.hidden/x..y/...",
            "/client/a/x?../../y=/..",
            "/client/a/%252e%252e/x",
            "/client/a/x;y/z%5cw",
            "/status/clients/a%2Fb",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_client_asks_the_server() {
        let route = find(Role::Client, "/server/time?x").unwrap();
        assert_eq!(route, PeerRoute { destination: Destination::Server, rest: "time?x" });
        let refusal = find(Role::Client, "/client/a/time").unwrap_err();
        assert_eq!((refusal.status, refusal.error), (404, "unknown_path"));
        assert!(refusal.message.contains("/server/NOUN"), "{}", refusal.message);
    }
}
