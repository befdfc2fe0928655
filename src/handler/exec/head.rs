//! The optional CGI headers at the start of a script's output (RFC 3875, section 6).
//!
//! In scope: finding the end of the headers, or that there are none, and parsing them. Not in
//! scope: which of them can be sent.

use crate::event::header;

/// Maximum size of the headers including the empty line, in bytes. Callers accept no more.
const MAX_BYTES: usize = 8 * 1024;

/// The parsed CGI headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CgiHead {
    /// From `Status`; 302 if there is only a `Location`.
    pub status: Option<u16>,
    /// From `Content-Type`; empty if missing.
    pub media_type: String,
    /// From `Content-Length`.
    pub length: Option<u64>,
    /// All other fields, in order.
    pub headers: Vec<(String, String)>,
}

/// How an output begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// More output is needed to decide. With `is_cgi` it cannot be plain text, because a field that
    /// marks CGI headers is present.
    Unknown {
        /// Whether there is a `Status`, a `Content-Type` or a `Location`.
        is_cgi: bool,
    },
    /// There are no headers; all of it is body.
    Body,
    /// The headers, and the offset of the body.
    Head(CgiHead, usize),
    /// Invalid headers, and why.
    Bad(String),
}

/// Examines the start of an output. It has headers if it consists of lines of `Name: value`, ended
/// by an empty line, at least one of which is `Status`, `Content-Type` or `Location`; a CGI script
/// must send one of these. Lines end with LF or CRLF.
pub(super) fn begins(output: &[u8]) -> Beginning {
    let mut fields = Vec::new();
    let mut is_cgi = false;
    let mut at = 0;
    loop {
        let rest = &output[at..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            let may_become = rest.is_empty() || rest == b"\r" || may_be_field(rest);
            return if !may_become {
                Beginning::Body
            } else if output.len() < MAX_BYTES {
                Beginning::Unknown { is_cgi }
            } else {
                too_long(is_cgi)
            };
        };
        let line = rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]);
        at += length + 1;
        if at > MAX_BYTES {
            return too_long(is_cgi);
        }
        if line.is_empty() {
            return if is_cgi { read(&fields, at) } else { Beginning::Body };
        }
        let Some((name, value)) = field(line) else { return Beginning::Body };
        is_cgi |= ["status", "content-type", "location"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        fields.push((name, value));
    }
}

fn too_long(is_cgi: bool) -> Beginning {
    if !is_cgi {
        return Beginning::Body;
    }
    Beginning::Bad(format!("its headers are longer than {MAX_BYTES} bytes"))
}

/// The first of duplicate fields wins.
fn read(fields: &[(&str, &[u8])], end: usize) -> Beginning {
    let mut head = CgiHead::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in fields {
        let value = header::from_bytes(value);
        let lower = name.to_ascii_lowercase();
        let is_first = !seen.contains(&lower);
        match lower.as_str() {
            "status" | "content-type" | "content-length" if !is_first => {}
            "status" => match status(&value) {
                Some(status) => head.status = Some(status),
                None => return bad("Status", "a number from 200 to 599, and words after it"),
            },
            "content-type" => head.media_type = value.into_owned(),
            "content-length" => match length(&value) {
                Some(length) => head.length = Some(length),
                None => return bad("Content-Length", "a number"),
            },
            _ => head.headers.push(((*name).to_owned(), value.into_owned())),
        }
        seen.push(lower);
    }
    if head.status.is_none() && seen.iter().any(|name| name == "location") {
        head.status = Some(302);
    }
    Beginning::Head(head, end)
}

fn bad(name: &str, accepted: &str) -> Beginning {
    Beginning::Bad(format!("its {name} header is not {accepted}"))
}

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = &line[..colon];
    let name = if header::is_token(name) { std::str::from_utf8(name).ok()? } else { return None };
    Some((name, &line[colon + 1..]))
}

/// Whether an incomplete line may still become a field.
fn may_be_field(begun: &[u8]) -> bool {
    match begun.iter().position(|byte| *byte == b':') {
        Some(colon) => header::is_token(&begun[..colon]),
        None => header::is_token(begun.strip_suffix(b"\r").unwrap_or(begun)),
    }
}

fn status(value: &str) -> Option<u16> {
    let number = value.split(' ').next()?;
    let number = if number.len() == 3 { length(number)? } else { return None };
    u16::try_from(number).ok().filter(|status| (200..=599).contains(status))
}

fn length(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if digits { value.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(output: &str) -> (CgiHead, &str) {
        match begins(output.as_bytes()) {
            Beginning::Head(head, at) => (head, &output[at..]),
            other => panic!("{output:?}: {other:?}"),
        }
    }

    #[test]
    fn headers_are_read_up_to_the_empty_line() {
        let (found, body) = head(
            "X-First: 1\nstatus: 404 Not Found\r\nContent-type:text/html\nX-First: 2\n\r\n\nbody\n\n",
        );
        assert_eq!(body, "\nbody\n\n");
        assert_eq!((found.status, found.media_type.as_str()), (Some(404), "text/html"));
        let first = |value: &str| ("X-First".to_owned(), value.to_owned());
        assert_eq!(found.headers, [first("1"), first("2")]);

        let (found, body) = head("Location: /there\nContent-Length: 12\n\n");
        assert_eq!((found.status, found.length, body), (Some(302), Some(12), ""));
        assert_eq!(head("Location: /x\nStatus: 301\nStatus: 404\n\n").0.status, Some(301));
    }

    #[test]
    fn an_output_that_is_no_head_is_body() {
        for output in [
            "\n",
            "\r\nStatus: 200\n\n",
            "hello\n",
            "{\"a\": 1}",
            "hello world",
            "data: one\n\n",
            "a: b\nnot a header\nStatus: 200\n\n",
            "Content-Type: text/plain\nhello\n\n",
            "Status : 200\n\n",
            " Status: 200\n\n",
            ": x\n\n",
            "<!doctype html>",
            "\0",
            "é: x",
        ] {
            assert_eq!(begins(output.as_bytes()), Beginning::Body, "{output:?}");
        }
        let long = format!("a: {}", "x".repeat(MAX_BYTES));
        assert_eq!(begins(long.as_bytes()), Beginning::Body);
        let long = "a: b\n".repeat(MAX_BYTES);
        assert_eq!(begins(long.as_bytes()), Beginning::Body);
    }

    #[test]
    fn what_may_become_a_head_is_waited_for() {
        let whole = "X-A: b\r\nStatus: 201\r\n\r\n";
        for cut in 0..whole.len() {
            let expected = Beginning::Unknown { is_cgi: cut >= "X-A: b\r\nStatus: 201\r\n".len() };
            assert_eq!(begins(&whole.as_bytes()[..cut]), expected, "{:?}", &whole[..cut]);
        }
        head(whole);
    }

    #[test]
    fn headers_that_cannot_be_used_are_an_error() {
        let long = format!("Status: 200\nX: {}\n\n", "x".repeat(MAX_BYTES));
        let endless = format!("Status: 200\nX: {}", "x".repeat(MAX_BYTES));
        for output in [
            "Status: fine\n\n",
            "Status: 100\n\n",
            "Status: 600\n\n",
            "Status: 2000\n\n",
            "Status: +20\n\n",
            "Status:\n\n",
            "Status: 200\nContent-Length: -1\n\n",
            "Status: 200\nContent-Length: 99999999999999999999\n\n",
            &long,
            &endless,
        ] {
            assert!(matches!(begins(output.as_bytes()), Beginning::Bad(_)), "{output:?}");
        }
    }

    #[test]
    fn every_byte_in_a_value_is_kept() {
        for byte in 0..=255_u8 {
            let output = [b"Content-Type: a/b\nX-A: c".as_slice(), &[byte], b"d\n\n"].concat();
            match begins(&output) {
                Beginning::Head(head, _) => {
                    let value: String = [b'c', byte, b'd'].map(char::from).iter().collect();
                    assert_eq!(head.headers, [("X-A".to_owned(), value)]);
                }
                other => assert!(byte == b'\n' && other == Beginning::Body, "{byte}: {other:?}"),
            }
        }
    }
}
