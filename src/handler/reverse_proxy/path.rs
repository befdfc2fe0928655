//! Whether a path stays where it seems to lead, however the service reads it.
//!
//! The path goes to the service as it was sent. A `..` in it could lead out of the prefix, or from what
//! the rules of this node allow to what they do not, for they see the noun as it is. So there must be
//! none, in whichever way one might read it:
//! - `..` means the segment above (RFC 3986, section 5.2.4).
//! - Segments are decoded before that (nginx, Python), and `%2F` is a slash then. Who decodes twice is
//!   wrong (RFC 3986, section 2.4), and there are some.
//! - A backslash is a slash on Windows. `;` begins a parameter that is taken off in Java, and NUL is an
//!   end in C. Blanks at an end are lost in some file systems.
//!
//! All else stays: `.`, several slashes and encoded ones lead down at most.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Why this path, with its query, cannot be asked for; it begins with a slash.
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

/// Most times that a segment is decoded. What is encoded more often wants to hide something.
const DECODINGS: usize = 4;

fn leads_up(segment: &[u8]) -> bool {
    let Some(decoded) = decode(segment) else { return true };
    let mut parts = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
    parts.any(|part| {
        let end = part.iter().position(|byte| b";?#\0".contains(byte)).unwrap_or(part.len());
        part[..end].trim_ascii() == b".."
    })
}

/// Decodes until there is nothing left to decode; `None` where that would take too often.
fn decode(segment: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut decoded = Cow::Borrowed(segment);
    for _ in 0..=DECODINGS {
        if !decoded.contains(&b'%') {
            return Some(decoded);
        }
        let once: Vec<u8> = percent_decode(&decoded).collect();
        // It gets shorter, or there was nothing.
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
