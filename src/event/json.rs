//! JSON as the original writes it: `{"a": 1, "b": [2, 3]}`, ASCII only, so that replies are the
//! same text and an original peer can carry them.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `value`, made of strings, numbers, lists and maps with string keys, as ASCII bytes.
pub(super) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut serializer = Serializer::with_formatter(&mut out, Spaced);
    value.serialize(&mut serializer).expect("a JSON value always fits into a vector");
    out
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, w: &mut W, s: &str) -> io::Result<()> {
        if s.is_ascii() {
            return w.write_all(s.as_bytes());
        }
        for c in s.chars() {
            if c.is_ascii() {
                w.write_all(&[c as u8])?;
            } else {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(w, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_form_is_the_originals() {
        let value = json!({"time_from_server": 1402897823.882672, "a": [1, 2], "b": {}});
        assert_eq!(
            String::from_utf8(to_vec(&value)).unwrap(),
            r#"{"time_from_server": 1402897823.882672, "a": [1, 2], "b": {}}"#
        );
    }

    #[test]
    fn other_alphabets_are_escaped_and_read_back() {
        let value = json!("ä \u{1F600} \" \n");
        let text = to_vec(&value);
        assert!(text.is_ascii());
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), value);
    }
}
