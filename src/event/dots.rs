//! Path segments `.` and `..`.
//!
//! Readers of a path with such a segment disagree about where it leads (RFC 3986, section 5.2.4): a
//! web server decides on `/b` and passes on `/a/../b` as it was sent.

/// Whether a path, already decoded, has a segment that some reader takes for `.` or `..`: a
/// backslash is a slash on Windows, `;` begins a parameter that Java removes, NUL ends a string in
/// C, and some readers strip blanks and control characters. `?` and `#` end a path, also for a
/// reader that decodes them too early.
pub(crate) fn has_dot_segment(decoded: &[u8]) -> bool {
    decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
        let end = segment.iter().position(|byte| b";?#\0".contains(byte)).unwrap_or(segment.len());
        matches!(trim(&segment[..end]), b"." | b"..")
    })
}

fn trim(mut segment: &[u8]) -> &[u8] {
    while let [0..=b' ' | 0x7f, rest @ ..] | [rest @ .., 0..=b' ' | 0x7f] = segment {
        segment = rest;
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_segment_is_found_wherever_it_is_and_whatever_follows_it() {
        for path in [
            ".",
            "..",
            "/a/..",
            "/a/./b",
            "a\\..\\b",
            "/..;x=y/b",
            "/.;",
            "/..\0",
            "/.. /",
            "/..?",
            "/..\x0b/",
            "/\x1f.\x7f",
            "/\t.. ;",
        ] {
            assert!(has_dot_segment(path.as_bytes()), "{path:?}");
        }
        for path in ["", "/", "//", "/...", "/..a", "/a..", "/.a/b.", "/a;..", "/a ..", "/a?.."] {
            assert!(!has_dot_segment(path.as_bytes()), "{path:?}");
        }
    }
}
