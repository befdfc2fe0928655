//! PEM text split into its sections, every line accounted for.
//!
//! In scope: `-----BEGIN LABEL-----` and `-----END LABEL-----` lines (RFC 7468), and text between
//! sections. Not in scope: the content of a section.
//!
//! Text before, between and after sections is allowed, as `openssl x509 -text` writes it. A line
//! there that could be a damaged part of a section is an error: to read on would silently drop a
//! certificate or a revocation list.

use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Editors on Windows write it before the first line; concatenating files puts it between them.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Dashes that text processors substitute for `--`: U+2013, U+2014 and U+2212.
const TYPESET_DASHES: [&[u8]; 3] = [b"\xe2\x80\x93", b"\xe2\x80\x94", b"\xe2\x88\x92"];
/// How much of a label is shown, in characters.
const MAX_LABEL: usize = 64;

/// One section, from its BEGIN line to its END line.
pub(super) struct Section {
    /// At most 64 printable ASCII characters of it.
    pub label: String,
    /// The number of its BEGIN line, from 1.
    pub line: usize,
    /// The section with LF line ends and without surrounding whitespace.
    pub text: Zeroizing<Vec<u8>>,
}

/// All sections in order. The error says what is wrong in which line.
pub(super) fn sections(bytes: &[u8]) -> Result<Vec<Section>, String> {
    match bytes {
        [] => return Err("the file is empty".to_owned()),
        [0x30, 0x80..=0x84, ..] => {
            return Err("it looks like DER, the binary form; convert it with openssl".to_owned());
        }
        _ => {}
    }
    let mut sections = Vec::new();
    let mut open: Option<Open<'_>> = None;
    for (number, line) in lines(bytes) {
        match (Line::of(line), open.take()) {
            (Line::Begin(label), None) => {
                open = Some(Open { label, line: number, lines: vec![line] });
            }
            (Line::End(label), Some(section)) if label == section.label => {
                sections.push(section.end(line));
            }
            (Line::Text, Some(mut section)) => {
                section.lines.push(line);
                open = Some(section);
            }
            (Line::Text, None) => {
                let byte = line.iter().find(|byte| byte.is_ascii_control() && **byte != b'\t');
                if let Some(byte) = byte {
                    return Err(format!(
                        "line {number}: there is a byte {byte:#04x} in the text; UTF-16 and DER \
                         cannot be used here"
                    ));
                }
            }
            (Line::Begin(_), Some(section)) => return Err(section.endless()),
            (Line::End(label), Some(section)) => {
                let (end, label, line) = (shown(label), shown(section.label), section.line);
                return Err(format!(
                    "line {number}: END {end} ends the section {label} of line {line}"
                ));
            }
            (Line::End(label), None) => {
                return Err(format!("line {number}: END {} has no BEGIN line", shown(label)));
            }
            (Line::RunTogether, _) => {
                return Err(format!(
                    "line {number}: two lines have run together; put a line break before -----BEGIN"
                ));
            }
            (Line::Damaged, _) => {
                return Err(format!(
                    "line {number}: a BEGIN or END line is damaged or has other text beside it"
                ));
            }
        }
    }
    match open {
        Some(section) => Err(section.endless()),
        None if sections.is_empty() => Err("there is no -----BEGIN line".to_owned()),
        None => Ok(sections),
    }
}

/// A section before its END line.
struct Open<'a> {
    label: &'a [u8],
    line: usize,
    lines: Vec<&'a [u8]>,
}

impl<'a> Open<'a> {
    fn end(mut self, line: &'a [u8]) -> Section {
        self.lines.push(line);
        // Allocated at once: a growing buffer would leave copies of a key behind.
        let length = self.lines.iter().map(|line| line.len() + 1).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        for line in self.lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        Section { label: shown(self.label), line: self.line, text }
    }

    fn endless(&self) -> String {
        format!("line {}: the section {} has no end line", self.line, shown(self.label))
    }
}

/// The kind of a trimmed line.
enum Line<'a> {
    /// `-----BEGIN LABEL-----`, with the label.
    Begin(&'a [u8]),
    /// `-----END LABEL-----`, with the label.
    End(&'a [u8]),
    /// Two markers, such as the last line of one file joined with the first of the next.
    RunTogether,
    /// A possibly damaged marker.
    Damaged,
    /// Anything else.
    Text,
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        if let Some(label) = label(line, BEGIN) {
            return Self::Begin(label);
        }
        if let Some(label) = label(line, END) {
            return Self::End(label);
        }
        let has = |part: &[u8]| count(line, part) > 0;
        if count(line, BEGIN) + count(line, END) > 1 {
            return Self::RunTogether;
        }
        // A line of dashes only is not part of a section.
        let is_marked = has(DASHES) && line.iter().any(u8::is_ascii_alphanumeric);
        let has_dashes = has(b"--") || TYPESET_DASHES.into_iter().any(has);
        let is_mistyped = has_dashes && (has(b"BEGIN ") || has(b"END "));
        if is_marked || is_mistyped { Self::Damaged } else { Self::Text }
    }
}

/// The label of a marker line that starts like this.
fn label<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let label = line.strip_prefix(start)?.strip_suffix(DASHES)?;
    let (first, last) = (label.first()?, label.last()?);
    let is_word = first.is_ascii_graphic() && last.is_ascii_graphic();
    let is_label = is_word
        && !matches!((first, last), (b'-', _) | (_, b'-'))
        && count(label, b"--") == 0
        && label.iter().all(|byte| matches!(byte, b' '..=b'~'));
    is_label.then_some(label)
}

/// How often `part` occurs in `bytes`.
fn count(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

fn shown(label: &[u8]) -> String {
    String::from_utf8_lossy(label).chars().take(MAX_LABEL).collect()
}

/// The lines with their numbers from 1, without leading byte order marks and surrounding
/// whitespace. They end with LF, CR LF or CR.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = bytes;
    let mut number = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
        number += 1;
        Some((number, stripped(line)))
    })
}

fn stripped(line: &[u8]) -> &[u8] {
    let mut line = line.trim_ascii();
    while let Some(after) = line.strip_prefix(BYTE_ORDER_MARK) {
        line = after.trim_ascii();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "-----BEGIN A-----\nAAAA\n-----END A-----";
    const B: &str = "-----BEGIN B C-----\nBBBB\nCCCC\n-----END B C-----";

    fn found(text: &str) -> Result<Vec<(String, usize)>, String> {
        let sections = sections(text.as_bytes())?;
        Ok(sections.into_iter().map(|section| (section.label, section.line)).collect())
    }

    #[test]
    fn every_whole_section_is_found_with_its_place() {
        for (text, second) in [
            (format!("{A}\n{B}\n"), 4),
            (format!("{A}\n{B}"), 4),
            (format!("{A}\r\n{B}").replace('\n', "\r\n").replace("\r\r", "\r"), 4),
            (format!("{A}\n{B}").replace('\n', "\r"), 4),
            (format!("\u{feff}{A}\n\u{feff}{B}\n"), 4),
            (format!("{A}  \n \t{}", B.replace('\n', " \n   ")), 4),
            (format!("Bag Attributes\n    friendlyName: é\n{A}\n--------------\n\n{B}\nend"), 8),
        ] {
            let first = second - 3 - text.matches("---\n\n").count() * 2;
            let found = found(&text);
            assert_eq!(
                found,
                Ok(vec![("A".to_owned(), first), ("B C".to_owned(), second)]),
                "{text:?}"
            );
        }
        let indented = sections(format!("  {}", A.replace('\n', "\r\n  ")).as_bytes()).unwrap();
        assert_eq!(indented[0].text.as_slice(), format!("{A}\n").as_bytes());
    }

    #[test]
    fn what_would_be_dropped_is_refused_with_its_place() {
        let together = |line| {
            format!("line {line}: two lines have run together; put a line break before -----BEGIN")
        };
        let damaged = |line| {
            format!("line {line}: a BEGIN or END line is damaged or has other text beside it")
        };
        let endless = |line, label| format!("line {line}: the section {label} has no end line");
        let byte = |line, byte| {
            format!(
                "line {line}: there is a byte {byte} in the text; UTF-16 and DER cannot be used \
                 here"
            )
        };
        for (text, expected) in [
            (format!("{A}{B}\n"), together(3)),
            (format!("{A} {B}\n"), together(3)),
            (format!("{A}\u{feff}{B}\n"), together(3)),
            (format!("{A}\0{B}\n"), together(3)),
            (format!("{A}{B}\n").replace('\n', "\r"), together(3)),
            (format!("{A}{B}\n").replace('\n', "\r\n"), together(3)),
            (format!("{A}\nx{B}\n"), damaged(4)),
            (format!("{A}x\n{B}\n"), damaged(3)),
            (format!("{A}\n{B} # the second\n"), damaged(7)),
            (format!("{A}\n{}", &B[1..]), damaged(4)),
            (format!("{A}\n-{B}"), damaged(4)),
            (format!("{A}\n{B}").replace("BEGIN B C-----", "BEGIN B C---"), damaged(4)),
            (format!("{A}\n{B}").replace("BEGIN B C", "BEGIN B C "), damaged(4)),
            (format!("{A}\n{B}").replace("BEGIN B C", "begin B C"), damaged(4)),
            (format!("{A}\n{B}").replace("-----BEGIN B C-----", "--BEGIN B C--"), damaged(4)),
            (format!("{A}\n{B}").replace("-----BEGIN B C-----", "– BEGIN B C –"), damaged(4)),
            (format!("{A}\n{B}").replace("BEGIN B C", "BEGIN"), damaged(4)),
            (format!("{A}\n-----BEGIN \u{e9}-----\n"), damaged(4)),
            (format!("{A}\n{B}").replace("BBBB", "BBBB-----END A-----"), damaged(5)),
            (format!("{A}\n{B}").replace("\n-----END A-----", ""), endless(1, "A")),
            (format!("{A}\n{B}").replace("\n-----END B C-----", ""), endless(4, "B C")),
            (A[..A.len() - 1].to_owned(), damaged(3)),
            (
                format!("{A}\n{B}").replace("END B C", "END A"),
                "line 7: END A ends the section B C of line 4".to_owned(),
            ),
            (
                format!("{A}\n{B}").replace("-----BEGIN B C-----\n", ""),
                "line 6: END B C has no BEGIN line".to_owned(),
            ),
            (format!("{A}\n\u{1b}[2J\n"), byte(4, "0x1b")),
            (format!("{A}\n0\u{82}\0\n"), byte(4, "0x00")),
            (A.chars().flat_map(|c| [c, '\0']).collect(), byte(1, "0x00")),
            ("hello\n".to_owned(), "there is no -----BEGIN line".to_owned()),
            ("----------\n".to_owned(), "there is no -----BEGIN line".to_owned()),
            ("\u{feff}".to_owned(), "there is no -----BEGIN line".to_owned()),
            (String::new(), "the file is empty".to_owned()),
        ] {
            assert_eq!(found(&text), Err(expected), "{text:?}");
        }
        let der = [&[0x30, 0x82, 0x01, 0x00][..], A.as_bytes()].concat();
        let fault = sections(&der).err().unwrap();
        assert_eq!(fault, "it looks like DER, the binary form; convert it with openssl");
    }
}
