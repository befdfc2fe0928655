//! A file of `NAME=value` lines. In scope: its syntax. Not in scope: which names exist.

use std::collections::BTreeMap;
use std::path::Path;

use crate::fs;

/// The `NAME=value` lines of a file: `#` comments, quotes and `export` as in a shell, each value on
/// one line and taken literally. The error says what is wrong in which line.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, String> {
    // All variables together fit many times; a larger file is a mistake.
    const MAX_BYTES: u64 = 1 << 20;
    let bytes = fs::read(path, MAX_BYTES).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    let mut values = BTreeMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
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
    if line.trim_start().starts_with('#') {
        return Ok(None);
    }
    // The parser would expand other variables here, unset ones to nothing.
    if line.contains('$') {
        return Err("has a `$`; values are not expanded, so write it out");
    }
    // One line at a time: a quote cannot span lines, and the line number is known.
    let terminated = format!("{line}\n");
    let mut pairs = dotenvy::from_read_iter(terminated.as_bytes());
    match pairs.next() {
        None => Ok(None),
        Some(Ok(pair)) => Ok(Some(pair)),
        Some(Err(_)) => Err("is not NAME=value (a value with spaces needs quotes)"),
    }
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

    #[test]
    fn a_line_is_read_as_in_a_shell() {
        let cases = [
            ("A=1", Some(("A", "1"))),
            ("  export A='1 #2'\r\n", Some(("A", "1 #2"))),
            ("A=1 # yes", Some(("A", "1"))),
            ("A = \"2\" ", Some(("A", "2"))),
            ("\u{feff}A=1", Some(("A", "1"))),
            ("A=", Some(("A", ""))),
            ("# it's mine: $5", None),
            (" \n\n", None),
        ];
        for (content, expected) in cases {
            let expected: Vec<_> =
                expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            assert_eq!(read_bytes(content.as_bytes()), Ok(expected), "{content:?}");
        }
        assert_eq!(read_bytes(b"A=1\nB=2\nA=1").map(|values| values.len()), Ok(2));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_line() {
        let form = "is not NAME=value (a value with spaces needs quotes)";
        let large = vec![b'#'; (1 << 20) + 1];
        let cases: [(&[u8], String); 8] = [
            (b"A=1\nnonsense\n", format!("line 2 {form}")),
            (b"A=1 2\n", format!("line 1 {form}")),
            (b"\n\nA=\"1\n2\"\n", format!("line 3 {form}")),
            (b"=1", format!("line 1 {form}")),
            (b"A=$X", "line 1 has a `$`; values are not expanded, so write it out".to_owned()),
            (b"A=0\nA=1", "line 2 sets A to another value than before".to_owned()),
            (b"A=\xff", "not UTF-8 text".to_owned()),
            (&large, "larger than 1048576 bytes".to_owned()),
        ];
        for (content, expected) in cases {
            assert_eq!(read_bytes(content), Err(expected));
        }
    }
}
