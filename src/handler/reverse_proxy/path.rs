//! Whether a path stays below the prefix, however the service interprets it.
//!
//! The path is forwarded as it was sent. A `..` in it could lead out of the prefix, or from what
//! this node's rules allow to what they do not, since the rules see the noun literally. So no
//! interpretation of the path may contain one, and none may contain a `.`, as at the local port.
//! Some services decode a path before they resolve these segments (nginx, Python), and `%2F` then
//! is a slash. Decoding twice is wrong (RFC 3986, section 2.4), but some do it.
//!
//! Everything else is allowed: repeated slashes and encoded ones never lead up.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::event::dots::has_dot_segment;

/// Checks a path with its query, which must begin with a slash; the error says why it is refused.
pub(super) fn check(target: &str) -> Result<(), &'static str> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters that a URL does not have");
    }
    if target.contains('#') {
        return Err("has a fragment (#), and a request carries none");
    }
    let path = target.split('?').next().unwrap_or(target);
    match decode(path.as_bytes()) {
        Some(decoded) if !has_dot_segment(&decoded) => Ok(()),
        _ => Err("has a segment . or .., or one that could be read so"),
    }
}

/// Maximum number of times a path is decoded. Deeper encoding suggests an attack.
const DECODINGS: usize = 4;

/// Decodes until nothing is left to decode; `None` if that takes too many passes.
fn decode(path: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut decoded = Cow::Borrowed(path);
    for _ in 0..=DECODINGS {
        if !decoded.contains(&b'%') {
            return Some(decoded);
        }
        let once: Vec<u8> = percent_decode(&decoded).collect();
        // Decoding shortens the path unless there was nothing to decode.
        if once.len() == decoded.len() {
            return Some(decoded);
        }
        decoded = Cow::Owned(once);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_dot_segment_in_any_reading_is_refused() {
        for path in [
            "/..",
            "/../",
            "/../x",
            "/a/../b",
            "/a/..",
            "//..",
            "/a//x/../../b",
            "/%2e%2e",
            "/%2E./x",
            "/.%2e/x",
            "/..%2fx",
            "/a%2f..",
            "/a%2f..%2fb",
            "/..%5cx",
            "/..\\x",
            "/a\\..\\x",
            "/%252e%252e/x",
            "/%25252e%25252e/x",
            "/..;/x",
            "/..;a=b/x",
            "/..%3b/x",
            "/..%00/x",
            "/..%20/x",
            "/%2e%2e%2f%2e%2e",
            "/%2f..",
            "/..?x",
            "/.",
            "/./a/.",
            "/a/%2e",
            "/a/%252e/b",
            "/..%23",
            "/..%3fx",
            "/%5c..",
            "/%09..",
        ] {
            let why = "has a segment . or .., or one that could be read so";
            assert_eq!(check(path), Err(why), "{path}");
        }
    }

    #[test]
    fn all_else_passes() {
        for path in [
            "/",
            "//",
            "///a//",
            "/...",
            "/..a",
            "/a..",
            "/.a",
            "/%2e%2ea",
            "/a%2fb",
            "/a%5cb",
            "/a?../..",
            "/a?/../../x",
            "/%zz",
            "/%",
            "/%2",
            "/a%252fb",
            "/http://canary/",
            "/@canary",
            "/:80",
            "/*",
            "/a;b",
            "/a;..",
            "/~!$&'()*+,=:@-._|^`{}<>\"",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_would_break_the_request_line_is_refused() {
        for byte in (0..=0x20).chain(0x7f..=0xff).chain(*b"#") {
            let path = format!("/a{}b", char::from(byte));
            assert!(check(&path).is_err(), "{byte}");
            let query = format!("/a?{}", char::from(byte));
            assert!(check(&query).is_err(), "{byte}");
        }
    }

    #[test]
    fn nothing_is_decoded_for_ever() {
        let nested = |times: usize| format!("/a%{}2f", "25".repeat(times));
        assert_eq!(check(&nested(DECODINGS - 1)), Ok(()));
        assert!(check(&nested(DECODINGS)).is_err());
        assert!(check(&nested(8000)).is_err());
    }
}
