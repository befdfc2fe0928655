//! Whether a path stays below the prefix of a service, however that reads it.
//!
//! The path goes to the service as it was sent, so it is looked at in every way in which one might
//! read it, and refused where one of them climbs out:
//! - `..` means the segment above (RFC 3986, section 5.2.4); `.` means nothing.
//! - Segments are decoded before that (nginx, Python), and `%2F` is a slash then. Who decodes twice is
//!   wrong (RFC 3986, section 2.4), and there are some.
//! - A backslash is a slash on Windows. `;` begins a parameter that is taken off in Java, and NUL is an
//!   end in C. Blanks at an end are lost in some file systems.
//! - Several slashes are one (nginx), so an empty segment is no step down that `..` could take back.

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
    // How deep it is at least, below the prefix.
    let mut depth: u64 = 0;
    for segment in path.split('/') {
        let steps = steps(segment.as_bytes());
        depth = match steps {
            Steps::Up(count) => {
                depth.checked_sub(count).ok_or("leads out of the service's prefix")?
            }
            Steps::None => depth,
            Steps::Down => depth + 1,
        };
    }
    Ok(())
}

/// What a segment means to the reader that climbs the most.
#[derive(Debug, PartialEq, Eq)]
enum Steps {
    Up(u64),
    None,
    Down,
}

fn steps(segment: &[u8]) -> Steps {
    let decoded = decode(segment);
    let (mut up, mut down) = (0, false);
    for part in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let end = part.iter().position(|byte| b";?#\0".contains(byte)).unwrap_or(part.len());
        match part[..end].trim_ascii() {
            b".." => up += 1,
            b"" | b"." => {}
            _ => down = true,
        }
    }
    match (up, down) {
        (1.., _) => Steps::Up(up),
        (0, true) => Steps::Down,
        (0, false) => Steps::None,
    }
}

/// Decodes until there is nothing left to decode. Each time it gets shorter.
fn decode(segment: &[u8]) -> Cow<'_, [u8]> {
    let mut decoded = Cow::Borrowed(segment);
    while decoded.contains(&b'%') {
        let once: Vec<u8> = percent_decode(&decoded).collect();
        if once.len() == decoded.len() {
            break;
        }
        decoded = Cow::Owned(once);
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_climbs_out_is_refused() {
        for path in [
            "/..",
            "/../",
            "/../x",
            "/a/../..",
            "/a/../../x",
            "/./..",
            "//..",
            "/a//../..",
            "/%2e%2e",
            "/%2E./x",
            "/.%2e/x",
            "/..%2fx",
            "/a%2f../../..",
            "/..%5cx",
            "/..\\x",
            "/a\\..\\..\\x",
            "/%252e%252e/x",
            "/%25252e%25252e/x",
            "/..;/x",
            "/..;a=b/x",
            "/..%3b/x",
            "/..%00/x",
            "/..%20/x",
            "/%2e%2e%2f%2e%2e",
            "/a/%2e%2e/%2e%2e",
            "/%2f..",
            "/%2e/..",
            "/..?x",
            "/a/..%2f..",
            "/;/..",
            "/%20/..",
            "/..%23",
            "/..%3fx",
            "/%5c..",
            "/%09..",
        ] {
            assert_eq!(check(path), Err("leads out of the service's prefix"), "{path}");
        }
    }

    #[test]
    fn what_stays_below_passes() {
        for path in [
            "/",
            "//",
            "///a//",
            "/a/..",
            "/a/../b",
            "/a/b/../../c",
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
            "/a/%2e%2e",
            "/http://canary/",
            "/@canary",
            "/:80",
            "/*",
            "/a;b/..",
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
}
