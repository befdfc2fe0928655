//! Parsing of rules, and the decision about a request.

use std::collections::HashMap;

use super::pattern::Pattern;
use crate::event::Verb;

/// Most bytes of a file of rules.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Most lines, including comments and empty ones.
const MAX_LINES: usize = 10_000;
/// Most bytes of one line.
const MAX_LINE: usize = 1024;

/// The request to be decided.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name in the peer's certificate.
    pub peer: &'a str,
    /// What it wants to do.
    pub verb: Verb,
    /// The noun, decoded, without parameters.
    pub noun: &'a str,
}

/// What is allowed; all else is refused. See the [module](super) for what a line may say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Rules about one peer, by its name in lower case, for lookup in constant time.
    named: HashMap<String, Vec<Rule>>,
    /// Rules about more than one.
    others: Vec<(Pattern, Rule)>,
}

/// One line that allows something.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    line: usize,
    text: String,
    /// Absent: any.
    verb: Option<Verb>,
    noun: Pattern,
}

impl Rules {
    /// Parses the content of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, RulesError> {
        if bytes.len() > MAX_BYTES {
            return Err(RulesError::TooLarge);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut rules = Self::default();
        // What follows the last line break is a line only if it is not empty.
        let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
        for (number, line) in (1..).zip(lines) {
            if number > MAX_LINES {
                return Err(RulesError::TooManyLines);
            }
            let bad = |what| RulesError::Line { number, what };
            let text = text_of(line).map_err(bad)?;
            if let Some((peer, verb, noun)) = parse_line(text).map_err(bad)? {
                rules.add(peer, Rule { line: number, text: text.trim().to_owned(), verb, noun });
            }
        }
        Ok(rules)
    }

    fn add(&mut self, peer: Pattern, rule: Rule) {
        match peer.only() {
            Some(name) => self.named.entry(name.to_owned()).or_default().push(rule),
            None => self.others.push((peer, rule)),
        }
    }

    /// The first rule that allows it; if there is none it is refused.
    pub fn find(&self, question: &Question<'_>) -> Option<&Rule> {
        let peer = question.peer.to_ascii_lowercase();
        let named =
            self.named.get(&peer).and_then(|rules| rules.iter().find(|rule| rule.allows(question)));
        let mut others = self.others.iter();
        let other = others.find(|(name, rule)| rule.allows(question) && name.matches(&peer));
        let both = [named, other.map(|(_, rule)| rule)];
        both.into_iter().flatten().min_by_key(|rule| rule.line)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.named.values().map(Vec::len).sum::<usize>() + self.others.len()
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.others.is_empty()
    }
}

impl Rule {
    /// The number of its line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Its line, as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it allows this to the peers it applies to.
    fn allows(&self, question: &Question<'_>) -> bool {
        self.verb.is_none_or(|verb| verb == question.verb) && self.noun.matches(question.noun)
    }
}

fn text_of(line: &[u8]) -> Result<&str, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8 text".to_owned())?;
    // With an invisible character a rule would not mean what it shows.
    let is_hidden = |c: char| c.is_control() || c.is_whitespace();
    match text.chars().find(|c| is_hidden(*c) && !matches!(c, ' ' | '\t')) {
        Some(hidden) => Err(format!("the character U+{:04X}; write it as %XX", hidden as u32)),
        None => Ok(text),
    }
}

type Parsed = (Pattern, Option<Verb>, Pattern);

/// The peer in lower case, the verb and the noun; `None` for an empty line or a comment.
fn parse_line(text: &str) -> Result<Option<Parsed>, String> {
    const FORM: &str = "a line is: allow PEER VERB NOUN";
    let words: Vec<&str> = text
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .take_while(|word| !word.starts_with('#'))
        .collect();
    let (peer, verb, noun) = match words[..] {
        [] => return Ok(None),
        ["allow", peer, verb, noun] => (peer, verb, noun),
        ["allow", ..] => {
            return Err(format!("{} words after allow; {FORM}", words.len() - 1));
        }
        [first, ..] => return Err(format!("begins with {first:?}; {FORM}")),
    };
    let wrong = |word: &str| {
        let word = format!("{word:?}");
        move |what: &'static str| format!("{word} {what}")
    };
    let verb = match verb {
        "*" => None,
        verb => Some(Verb::parse(verb).ok_or_else(|| wrong_verb(verb))?),
    };
    if noun.contains("//") || noun.contains('?') {
        return Err(format!(
            "{noun:?} has parameters or a query; rules are about the noun, without // or ?"
        ));
    }
    let peer = Pattern::parse(peer).map_err(wrong(peer))?.into_lower_case();
    let noun = Pattern::parse(noun).map_err(wrong(noun))?;
    Ok(Some((peer, verb, noun)))
}

fn wrong_verb(word: &str) -> String {
    if word.eq_ignore_ascii_case("head") {
        return "HEAD is asked as GET; write get".to_owned();
    }
    let verbs: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
    format!("{word:?} is no verb; verbs are {} and *", verbs.join(", "))
}

/// Why the content of a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// The file is larger than the limit.
    #[error("larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// The file has more lines than the limit.
    #[error("line {} is beyond the limit", MAX_LINES + 1)]
    TooManyLines,
    /// A line is wrong.
    #[error("line {number}: {what}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn line(rules: &Rules, peer: &str, verb: Verb, noun: &str) -> Option<usize> {
        rules.find(&Question { peer, verb, noun }).map(Rule::line)
    }

    fn error(bytes: &[u8]) -> String {
        Rules::parse(bytes).map(|rules| rules.len()).unwrap_err().to_string()
    }

    #[test]
    fn only_what_a_line_allows_is_allowed() {
        let rules = rules("allow web-1 get time\nallow web-1 PUT note\nallow * Options *\n");
        assert_eq!(rules.len(), 3);
        assert_eq!(line(&rules, "web-1", Verb::Get, "time"), Some(1));
        assert_eq!(line(&rules, "web-1", Verb::Put, "note"), Some(2));
        assert_eq!(line(&rules, "anybody", Verb::Options, "a/b"), Some(3));
        for (peer, verb, noun) in [
            ("web-2", Verb::Get, "time"),
            ("web-1", Verb::Post, "time"),
            ("web-1", Verb::Get, "note"),
            ("web-1", Verb::Get, "time/utc"),
            ("web-1", Verb::Get, "TIME"),
            ("", Verb::Get, "time"),
        ] {
            assert_eq!(line(&rules, peer, verb, noun), None, "{peer} {verb:?} {noun}");
        }
    }

    #[test]
    fn no_line_allows_nothing() {
        for text in ["", "\n", "\n\n \t\n", "# allow * * *", "   #allow * * *\r\n"] {
            let rules = rules(text);
            assert_eq!((rules.is_empty(), rules.len()), (true, 0), "{text:?}");
            assert_eq!(line(&rules, "a", Verb::Get, "time"), None, "{text:?}");
        }
    }

    #[test]
    fn a_line_may_be_written_as_people_write() {
        for text in [
            "allow a get b",
            "  allow\ta   get\t b  ",
            "allow a GET b # why not",
            "allow a get b #",
            "allow A get b\r\n",
            "\u{feff}allow a get b",
        ] {
            assert_eq!(line(&rules(text), "A", Verb::Get, "b"), Some(1), "{text:?}");
        }
        assert_eq!(line(&rules("allow a get b#c"), "a", Verb::Get, "b#c"), Some(1));
        assert_eq!(line(&rules("allow a get %23b"), "a", Verb::Get, "#b"), Some(1));
        let found = rules("\n\n  allow a get b # x \n");
        let question = Question { peer: "a", verb: Verb::Get, noun: "b" };
        let rule = found.find(&question).unwrap();
        assert_eq!((rule.line(), rule.text()), (3, "allow a get b # x"));
    }

    #[test]
    fn the_first_line_that_allows_it_is_named() {
        let rules = rules("allow *-1 get a\nallow web-1 get a\nallow web-1 * b\nallow * get b\n");
        assert_eq!(line(&rules, "web-1", Verb::Get, "a"), Some(1));
        assert_eq!(line(&rules, "WEB-1", Verb::Get, "b"), Some(3));
        assert_eq!(line(&rules, "db", Verb::Get, "b"), Some(4));
    }

    #[test]
    fn names_with_other_alphabets_and_signs_can_be_meant() {
        let rules = rules("allow größe%20日本 get a\nallow %2A get b\nallow a%0Ab get c\n");
        assert_eq!(line(&rules, "größe 日本", Verb::Get, "a"), Some(1));
        // Case is ignored only for ASCII.
        assert_eq!(line(&rules, "GRÖSSE 日本", Verb::Get, "a"), None);
        assert_eq!(line(&rules, "*", Verb::Get, "b"), Some(2));
        assert_eq!(line(&rules, "x", Verb::Get, "b"), None);
        assert_eq!(line(&rules, "a\nb", Verb::Get, "c"), Some(3));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let cases: [(&[u8], &str); 14] = [
            (b"permit a get b", "line 1: begins with \"permit\"; a line is: allow PEER VERB NOUN"),
            (b"Allow a get b", "line 1: begins with \"Allow\"; a line is: allow PEER VERB NOUN"),
            (b"\nallow a get", "line 2: 2 words after allow; a line is: allow PEER VERB NOUN"),
            (b"allow a get b c", "line 1: 4 words after allow; a line is: allow PEER VERB NOUN"),
            (b"allow a get # b", "line 1: 2 words after allow; a line is: allow PEER VERB NOUN"),
            (
                b"allow a read b",
                "line 1: \"read\" is no verb; verbs are get, post, put, delete, patch, options, connect and *",
            ),
            (b"allow a HEAD b", "line 1: HEAD is asked as GET; write get"),
            (
                b"allow a get cat//*",
                "line 1: \"cat//*\" has parameters or a query; rules are about the noun, without // or ?",
            ),
            (
                b"allow 5% get b",
                "line 1: \"5%\" has a % without two hexadecimal digits after it; write %25 for a %",
            ),
            (b"allow a get %ff", "line 1: \"%ff\" is not UTF-8 once decoded"),
            (b"# x\nallow \xff get b", "line 2: not UTF-8 text"),
            (b"allow a\0 get b", "line 1: the character U+0000; write it as %XX"),
            (b"allow a\x1b get b", "line 1: the character U+001B; write it as %XX"),
            ("allow a\u{a0}get b".as_bytes(), "line 1: the character U+00A0; write it as %XX"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(error(bytes), expected);
        }
    }

    #[test]
    fn bytes_lines_and_length_are_bounded() {
        let comment = |length: usize| format!("#{}", "x".repeat(length - 1));
        assert!(rules(&comment(MAX_LINE)).is_empty());
        assert_eq!(error(comment(MAX_LINE + 1).as_bytes()), "line 1: longer than 1024 bytes");
        assert!(rules(&"\n".repeat(MAX_LINES)).is_empty());
        assert_eq!(error(&b"\n".repeat(MAX_LINES + 1)), "line 10001 is beyond the limit");
        let line = format!("{}\n", comment(511));
        let largest = line.repeat(MAX_BYTES / line.len());
        assert_eq!(largest.len(), MAX_BYTES);
        assert!(rules(&largest).is_empty());
        assert_eq!(error(format!("{largest}#").as_bytes()), "larger than 1048576 bytes");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = "# x\nallow backup-* get time/*\r\nallow größe%20 * a%2Ab\nallow * put *\n";
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut bytes = whole.as_bytes().to_vec();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            match Rules::parse(&bytes) {
                Ok(rules) => drop(line(&rules, "backup-1", Verb::Get, "time/utc")),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.chars().any(char::is_control), "{text:?}");
                }
            }
        }
    }
}
