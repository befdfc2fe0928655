//! The CGI headers with which a script's output may begin (RFC 3875, section 6).
//!
//! In scope: where headers end, or that there are none, and what they say. Not in scope: which of
//! them reach the caller: its side drops those that belong to the connection or are not clean.

use crate::event::header;

/// Most bytes of headers with the empty line after them. Callers take no more.
const MAX_BYTES: usize = 8 * 1024;

/// What a script said about its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CgiHead {
    /// From `Status`; 302 where there is only a `Location`.
    pub status: Option<u16>,
    /// From `Content-Type`; empty where there is none.
    pub media_type: String,
    /// From `Content-Length`.
    pub length: Option<u64>,
    /// All others, in their order.
    pub headers: Vec<(String, String)>,
}

/// What the beginning of an output is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// More has to come before that can be said. `is_cgi`: it cannot be mere text, for one of
    /// the fields that make headers is there.
    Unknown {
        /// Whether there is a `Status`, a `Content-Type` or a `Location`.
        is_cgi: bool,
    },
    /// All of it is body.
    Body,
    /// Headers, and where the body begins.
    Head(CgiHead, usize),
    /// Headers that cannot be used, and why.
    Bad(String),
}

/// Looks at the beginning of an output. It is headers if it is lines of `Name: value`, ended by an empty
/// line, and one of them is `Status`, `Content-Type` or `Location`, of which a CGI script has to send
/// one. Lines end with LF or CRLF.
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

/// The first of several fields counts. What is not a clean value is left out.
fn read(fields: &[(&str, &[u8])], end: usize) -> Beginning {
    let mut head = CgiHead::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in fields {
        let Some(value) = header::clean(value) else { continue };
        let lower = name.to_ascii_lowercase();
        let is_first = !seen.contains(&lower);
        match lower.as_str() {
            "status" | "content-type" | "content-length" if !is_first => {}
            "status" => match status(value) {
                Some(status) => head.status = Some(status),
                None => return bad("Status", "a number from 200 to 599, and words after it"),
            },
            "content-type" => value.clone_into(&mut head.media_type),
            "content-length" => match length(value) {
                Some(length) => head.length = Some(length),
                None => return bad("Content-Length", "a number"),
            },
            _ => head.headers.push(((*name).to_owned(), value.to_owned())),
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

/// Whether the beginning of a line may become a field.
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
    fn every_byte_in_a_value_is_clean_or_costs_its_header() {
        for byte in 0..=255_u8 {
            let output = [b"Content-Type: a/b\nX-A: c".as_slice(), &[byte], b"d\n\n"].concat();
            let clean = matches!(byte, b'\t' | 0x20..=0x7e);
            match begins(&output) {
                Beginning::Head(head, _) => {
                    assert_eq!(head.headers.len(), usize::from(clean), "{byte}");
                    assert!(head.headers.iter().all(|(_, value)| value.len() == 3), "{byte}");
                }
                other => assert!(byte == b'\n' && other == Beginning::Body, "{byte}: {other:?}"),
            }
        }
    }
}
