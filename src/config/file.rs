//! A file of `NAME=value` lines, read as systemd reads an `EnvironmentFile=`.
//!
//! In scope: its syntax. Not in scope: which names exist.
//!
//! The same file serves a unit of systemd and a node that is started by hand, so every accepted line
//! has one meaning in both. What systemd would ignore, join with another line or read differently
//! from a shell is refused.

use std::collections::BTreeMap;
use std::path::Path;

use crate::fs;

/// The values of a file. Each stands on one line and is taken literally: nothing is expanded. The
/// error says what is wrong in which line.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, String>, String> {
    // All variables together fit many times; a larger file is a mistake.
    const MAX_BYTES: u64 = 1 << 20;
    let bytes = fs::read(path, MAX_BYTES).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    let mut values = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let Some((name, value)) = read_line(line).map_err(|why| format!("line {number} {why}"))?
        else {
            continue;
        };
        match values.get(&name) {
            Some(earlier) if *earlier != value => {
                return Err(format!("line {number} sets {name} to another value than before"));
            }
            _ => values.insert(name, value),
        };
    }
    Ok(values)
}

/// The name and value of one line; `None` for an empty line or a comment.
fn read_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    if line.starts_with('\u{feff}') {
        return Err("begins with a byte order mark, which systemd takes for a part of the name");
    }
    // Systemd ends a line at a carriage return, and drops a value with other control characters.
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("has a control character");
    }
    let line = line.trim_matches(BLANKS);
    if line.ends_with('\\') && !line.starts_with(COMMENTS) {
        return Err("ends with a backslash, which joins it with the next; write it in one line");
    }
    if line.starts_with(COMMENTS) && line.ends_with('\\') {
        return Err("is a comment that ends with a backslash, and goes on in the next line");
    }
    if line.is_empty() || line.starts_with(COMMENTS) {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("is not NAME=value; systemd would ignore it")?;
    let name = name.trim_end_matches(BLANKS);
    if name.split_once(BLANKS).is_some_and(|(word, _)| word == "export") {
        return Err("begins with `export`, and systemd would ignore it; write NAME=value");
    }
    if !is_name(name) {
        return Err("is not NAME=value; a name has letters, digits and _ only");
    }
    Ok(Some((name.to_owned(), read_value(value.trim_start_matches(BLANKS))?)))
}

/// What systemd takes for blanks within a line.
const BLANKS: [char; 2] = [' ', '\t'];
/// What begins a comment.
const COMMENTS: [char; 2] = ['#', ';'];

fn read_value(text: &str) -> Result<String, &'static str> {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => read_quoted(&text[1..], quote),
        Some('#') => Err(REMARK),
        _ => read_plain(text),
    }
}

const REMARK: &str = "has a remark behind its value, which systemd takes for a part of it; give the remark \
     a line of its own, or quote the value";

/// A backslash stands before a character that is taken as it is.
fn read_plain(text: &str) -> Result<String, &'static str> {
    if text.contains(" #") || text.contains("\t#") {
        return Err(REMARK);
    }
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        value.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Ok(value)
}

/// Within double quotes, a backslash stands before one of `"`, `\`, `` ` `` and `$`, and is itself
/// before anything else. Within single quotes nothing is special.
fn read_quoted(text: &str, quote: char) -> Result<String, &'static str> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or("has a quote without an end in the same line")? {
            c if c == quote => break,
            '\\' if quote == '"' => match chars.next() {
                Some(c) if ESCAPED.contains(&c) => value.push(c),
                other => value.extend(std::iter::once('\\').chain(other)),
            },
            c => value.push(c),
        }
    }
    match chars.as_str().trim_start_matches(BLANKS) {
        "" => Ok(value),
        rest if rest.starts_with('#') => Err(REMARK),
        _ => Err("goes on behind its quotes; put all of the value between them"),
    }
}

/// What a backslash stands before within double quotes.
const ESCAPED: [char; 4] = ['"', '\\', '`', '$'];

/// The value as a line of such a file has it: [`read`] and a shell give it back.
pub(super) fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:,@%+=*".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    let mut text = String::from('"');
    for c in value.chars() {
        text.extend(ESCAPED.contains(&c).then_some('\\'));
        text.push(c);
    }
    text + "\""
}

fn is_name(text: &str) -> bool {
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.bytes().all(is_clean) && !text.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read_bytes(content: &[u8]) -> Result<Vec<(String, String)>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        read(file.path()).map(|values| values.into_iter().collect())
    }

    /// `tests/operation/systemd.rs` compares such lines with a real systemd.
    #[test]
    fn a_line_is_read_as_by_systemd() {
        let cases = [
            ("A=1", Some("1")),
            ("  A='1 #2'\r\n", Some("1 #2")),
            ("A = \"2\" ", Some("2")),
            ("A=  1 2  ", Some("1 2")),
            ("A=", Some("")),
            ("A=a#b", Some("a#b")),
            ("A=$HOME", Some("$HOME")),
            ("A=it's", Some("it's")),
            (r"A=a\ \#\\b\n", Some(r"a #\bn")),
            (r#"A="\$\`\"\\\n'""#, Some(r#"$`"\\n'"#)),
            (r#"A='\"'"#, Some(r#"\""#)),
            ("# it's mine: $5", None),
            ("; A=1", None),
            (" \n\n", None),
        ];
        for (content, expected) in cases {
            let expected: Vec<_> =
                expected.into_iter().map(|value| ("A".to_owned(), value.to_owned())).collect();
            assert_eq!(read_bytes(content.as_bytes()), Ok(expected), "{content:?}");
        }
        assert_eq!(read_bytes(b"A=1\nB=2\nA=1").map(|values| values.len()), Ok(2));
    }

    #[test]
    fn what_would_be_read_in_two_ways_is_refused_with_its_line() {
        let large = vec![b'#'; (1 << 20) + 1];
        let cases: [(&[u8], &str); 21] = [
            (b"A=1\nnonsense\n", "line 2 is not NAME=value"),
            (b"A=5 # less", "line 1 has a remark"),
            (b"A=\t# less", "line 1 has a remark"),
            (b"A=#less", "line 1 has a remark"),
            (b"A=\"5\" # less", "line 1 has a remark"),
            (b"\nexport A=5", "line 2 begins with `export`"),
            (b"export\tA=5", "line 1 begins with `export`"),
            (b"A B=5", "a name has letters"),
            (b"=1", "a name has letters"),
            (b"1A=1", "a name has letters"),
            (b"A.B=1", "a name has letters"),
            (b"\n\nA=\"1\n2\"\n", "line 3 has a quote without an end"),
            (b"A='1", "line 1 has a quote without an end"),
            (b"A=\"a\"b", "line 1 goes on behind its quotes"),
            (b"A=\"a\" 'b'", "line 1 goes on behind its quotes"),
            (b"A=1\\\n2", "line 1 ends with a backslash"),
            (b"# a\\\nA=1", "line 1 is a comment that ends with a backslash"),
            (b"A=1\rB=2", "line 1 has a control character"),
            (b"\xef\xbb\xbfA=1", "line 1 begins with a byte order mark"),
            (b"A=\xff", "not UTF-8 text"),
            (&large, "larger than 1048576 bytes"),
        ];
        for (content, expected) in cases {
            let error = read_bytes(content).unwrap_err();
            assert!(error.contains(expected), "{:?}: {error}", String::from_utf8_lossy(content));
        }
        let twice = "line 2 sets A to another value than before";
        assert_eq!(read_bytes(b"A=0\nA=1"), Err(twice.to_owned()));
    }

    #[test]
    fn what_is_written_is_read_back_here_and_by_a_shell() {
        for value in ["", "1", "a b", "http://u:p$w\"`\\@h:1/%20", "it's # all", "*=x,y=/z", "ä"] {
            let line = format!("A={}", quoted(value));
            let read = read_bytes(line.as_bytes()).unwrap();
            assert_eq!(read, [("A".to_owned(), value.to_owned())], "{line}");
            let script = format!("{line}\nprintf %s \"$A\"");
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value, "{line}");
        }
    }
}
