//! A word of a rule: text with `*` for any characters.

use percent_encoding::percent_decode_str;

/// The text between the asterisks; a single piece has no asterisk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pieces: Vec<String>,
}

impl Pattern {
    /// Parses a word, in which `%XX` is an encoded byte. The error says what is wrong.
    pub fn parse(word: &str) -> Result<Self, &'static str> {
        // Split before decoding: `%2A` is a literal asterisk.
        let pieces = word.split('*').map(decode).collect::<Result<_, _>>()?;
        Ok(Self { pieces })
    }

    /// Converts ASCII letters to lower case.
    pub fn into_lower_case(mut self) -> Self {
        self.pieces.iter_mut().for_each(|piece| piece.make_ascii_lowercase());
        self
    }

    /// The only text that matches, if there is just one.
    pub fn only(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    /// Whether `text` matches. Searches for each piece in turn without backtracking: the first
    /// match leaves the most for the following pieces.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else { return false };
        let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return left.is_empty() };
        for piece in middle {
            let Some(at) = left.find(piece.as_str()) else { return false };
            left = &left[at + piece.len()..];
        }
        left.ends_with(last.as_str())
    }
}

fn decode(piece: &str) -> Result<String, &'static str> {
    for (at, _) in piece.match_indices('%') {
        let digits = piece.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err("has a % without two hexadecimal digits after it; write %25 for a %");
        }
    }
    let decoded = percent_decode_str(piece).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| "is not UTF-8 once decoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(text)
    }

    #[test]
    fn a_text_without_asterisks_matches_itself_only() {
        assert!(matches("time/utc", "time/utc"));
        for text in ["time", "time/utc/", "Time/utc", "xtime/utc", "", "*"] {
            assert!(!matches("time/utc", text), "{text:?}");
        }
    }

    #[test]
    fn an_asterisk_stands_for_anything() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a/b.c ä\n"),
            ("backup-*", "backup-"),
            ("backup-*", "backup-7.example.com"),
            ("time/*", "time/utc/now"),
            ("*.example.com", "a.b.example.com"),
            ("a*b*c", "abc"),
            ("a*b*c", "a-b-b-c-c"),
            ("a**c", "ac"),
            ("*b*", "abc"),
            ("*ab", "aab"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text:?}");
        }
        for (pattern, text) in [
            ("backup-*", "backup"),
            ("backup-*", "a backup-1"),
            ("time/*", "time"),
            ("*.example.com", "example.com"),
            ("*.example.com", "a.example.com.evil"),
            ("a*b*c", "acb"),
            // The first and the last piece must not overlap.
            ("ab*ba", "aba"),
            ("a*ab*b", "aab"),
            ("*ab*ab", "aab"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text:?}");
        }
    }

    #[test]
    fn a_name_with_an_asterisk_is_no_wildcard_and_can_be_meant() {
        assert!(!matches("client-1", "*"));
        assert!(!matches("%2A", "client-1"));
        assert!(matches("%2a", "*"));
        assert!(matches("my%20noun%C3%A4", "my nounä"));
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for word in ["%", "a%2", "%zz", "%2*A", "50%", "%ä1", "%ff"] {
            assert!(Pattern::parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn many_asterisks_take_no_time_to_speak_of() {
        let pattern = Pattern::parse(&"a*".repeat(500)).unwrap();
        let text = format!("{}b", "a".repeat(16 * 1024));
        assert!(pattern.matches(&text));
        let pattern = Pattern::parse(&format!("{}c", "*a".repeat(500))).unwrap();
        for _ in 0..1000 {
            assert!(!pattern.matches(&text));
        }
    }
}
