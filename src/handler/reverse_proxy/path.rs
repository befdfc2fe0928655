//! Whether a path stays below the prefix, however the service interprets it.
//!
//! The path is forwarded as it was sent. A `..` in it could lead out of the prefix, or from what
//! this node's rules allow to what they do not, since the rules see the noun literally. So no
//! interpretation of the path may contain one:
//! - `..` means the parent segment (RFC 3986, section 5.2.4).
//! - Some services decode segments before resolving `..` (nginx, Python), and `%2F` then is a
//!   slash. Decoding twice is wrong (RFC 3986, section 2.4), but some do it.
//! - A backslash is a slash on Windows. `;` begins a parameter that Java removes, and NUL ends a
//!   string in C. Some file systems strip trailing blanks.
//!
//! Everything else is allowed: `.`, repeated slashes and encoded ones never lead up.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Checks a path with its query, which must begin with a slash; the error says why it is refused.
pub(super) fn check(target: &str) -> Result<(), &'static str> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters that a URL does not have");
    }
    if target.contains('#') {
        return Err("has a fragment (#), and a request carries none");
    }
    let path = target.split('?').next().unwrap_or(target);
    if path.split('/').any(|segment| leads_up(segment.as_bytes())) {
        return Err("has a segment that leads up (..), or could be read so");
    }
    Ok(())
}

/// Maximum number of times a segment is decoded. Deeper encoding suggests an attack.
const DECODINGS: usize = 4;

fn leads_up(segment: &[u8]) -> bool {
    let Some(decoded) = decode(segment) else { return true };
    let mut parts = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
    parts.any(|part| {
        let end = part.iter().position(|byte| b";?#\0".contains(byte)).unwrap_or(part.len());
        part[..end].trim_ascii() == b".."
    })
}

/// Decodes until nothing is left to decode; `None` if that takes too many passes.
fn decode(segment: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut decoded = Cow::Borrowed(segment);
    for _ in 0..=DECODINGS {
        if !decoded.contains(&b'%') {
            return Some(decoded);
        }
        let once: Vec<u8> = percent_decode(&decoded).collect();
        // Decoding shortens the segment unless there was nothing to decode.
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
    fn what_leads_up_in_any_reading_is_refused() {
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
            "/..%23",
            "/..%3fx",
            "/%5c..",
            "/%09..",
        ] {
            let up = "has a segment that leads up (..), or could be read so";
            assert_eq!(check(path), Err(up), "{path}");
        }
    }

    #[test]
    fn all_else_passes() {
        for path in [
            "/",
            "//",
            "///a//",
            "/.",
            "/./a/.",
            "/...",
            "/..a",
            "/a..",
            "/.a",
            "/%2e",
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
