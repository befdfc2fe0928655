//! The variables as `--help` shows them.

use super::variables::{Reader, VARIABLES};

/// The widest line, in columns.
const WIDTH: usize = 100;
/// The widest name that still fits its column.
const MAX_NAME: usize = 33;
const INDENT: &str = "  ";
const GAP: &str = "  ";

/// All variables that a program reads, in aligned columns: names, default, meaning. No line is
/// wider than 100 columns.
pub fn variables_text(reader: Reader) -> String {
    let mut rows: Vec<Row> = VARIABLES
        .iter()
        .filter(|variable| variable.read_by.contains(&reader))
        .map(|variable| {
            let last = variable.names.len() - 1;
            let or = |index| if index < last { " or" } else { "" };
            let names = variable.names.iter().enumerate();
            Row {
                names: names.map(|(index, name)| format!("{name}{}", or(index))).collect(),
                default: if variable.default.is_empty() { "-" } else { variable.default },
                meaning: variable.meaning,
            }
        })
        .collect();
    let fits = |name: &String| name.len() <= MAX_NAME;
    let in_column = rows.iter().flat_map(|row| &row.names).filter(|name| fits(name));
    let names = in_column.map(String::len).max().unwrap_or(0);
    let default = rows.iter().map(|row| row.default.len()).max().unwrap_or(0);
    let meaning = WIDTH - (INDENT.len() + names + GAP.len() + default + GAP.len());

    let mut text = String::new();
    for row in &mut rows {
        // A name wider than its column goes above its row.
        if row.names.iter().any(|name| !fits(name)) {
            for name in row.names.drain(..) {
                text.push_str(&format!("{INDENT}{name}\n"));
            }
        }
        let meaning = wrap(row.meaning, meaning);
        for index in 0..row.names.len().max(meaning.len()) {
            let name = row.names.get(index).map_or("", String::as_str);
            let value = if index == 0 { row.default } else { "" };
            let words = meaning.get(index).map_or("", String::as_str);
            let line = format!("{INDENT}{name:names$}{GAP}{value:default$}{GAP}{words}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

struct Row {
    names: Vec<String>,
    default: &'static str,
    meaning: &'static str,
}

/// Wraps the words at `width` columns; a longer word gets its own line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const READERS: [Reader; 6] = [
        Reader::ServerStart,
        Reader::ClientStart,
        Reader::ServerSetIdentity,
        Reader::ClientSetIdentity,
        Reader::RemotedBroker,
        Reader::RemotedEnd,
    ];

    #[test]
    fn every_program_lists_what_it_reads_and_nothing_else() {
        for reader in READERS {
            let text = variables_text(reader);
            let words: Vec<&str> = text.split_whitespace().collect();
            for variable in VARIABLES {
                let first = variable.names[0];
                let listed =
                    text.lines().find(|line| line.split_whitespace().next() == Some(first));
                let is_read = variable.read_by.contains(&reader);
                assert_eq!(listed.is_some(), is_read, "{first} {reader:?}");
                if let Some(line) = listed {
                    assert!(line.contains(variable.default), "{line}");
                    assert!(variable.names.iter().all(|name| words.contains(name)), "{first}");
                }
            }
        }
    }

    #[test]
    fn no_line_is_too_wide() {
        for reader in READERS {
            for line in variables_text(reader).lines() {
                assert!(line.len() <= WIDTH, "{} columns: {line}", line.len());
                assert_eq!(line, line.trim_end());
            }
        }
    }

    #[test]
    fn words_are_wrapped_whole() {
        assert_eq!(wrap("a bb ccc dddddd e", 4), ["a bb", "ccc", "dddddd", "e"]);
        assert_eq!(wrap("", 4), [""; 0]);
    }
}
