//! HTTP header fields that cross the pipe: which may, and their values as text. Both ends check:
//! input from the other side is not trusted.
//!
//! A value is a sequence of bytes whose meaning HTTP does not know (RFC 9110, section 5.5); beside
//! ASCII that may be UTF-8 or anything else. As text, here and in protobuf strings, each byte is the
//! character of the same number (ISO 8859-1), as in WSGI, servlets and the Fetch API. So any bytes
//! arrive as they were sent: [`from_bytes`] and [`to_bytes`] convert without loss.

use std::borrow::Cow;

/// Most fields of one event or reply.
pub const MAX_FIELDS: usize = 128;
/// Most bytes of all their names and values: the limit of an HTTP head.
pub const MAX_BYTES: usize = 16 * 1024;

/// Fields that belong to one connection or frame one message (RFC 9110, section 7.6.1), besides
/// `Proxy-...`.
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"];

/// Whether a field belongs to one connection and must not be forwarded.
pub fn is_hop_by_hop(name: &str) -> bool {
    let is_proxys = name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("proxy-"));
    is_proxys || HOP_BY_HOP.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// A token of RFC 9110, section 5.6.2.
pub fn is_token(name: impl AsRef<[u8]>) -> bool {
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let name = name.as_ref();
    !name.is_empty() && name.iter().all(is_tchar)
}

/// A value as text, without the blanks around it.
pub fn from_bytes(value: &[u8]) -> Cow<'_, str> {
    let value = trim(value);
    match std::str::from_utf8(value) {
        Ok(text) if value.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(value.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// The bytes of a value; `None` for a text that is no value: one with a control character other
/// than a tab, or a character that is no byte.
pub fn to_bytes(value: &str) -> Option<Cow<'_, [u8]>> {
    if value.is_ascii() {
        return is_clean(value).then_some(Cow::Borrowed(value.as_bytes()));
    }
    let byte = |c| u8::try_from(c).ok().filter(|byte| is_value_byte(*byte));
    value.chars().map(byte).collect::<Option<Vec<u8>>>().map(Cow::Owned)
}

/// Whether a text is a value that can be sent.
pub fn is_clean(value: &str) -> bool {
    size(value).is_some()
}

/// The number of bytes of a value; `None` if it cannot be sent.
fn size(value: &str) -> Option<usize> {
    if value.is_ascii() {
        return value.bytes().all(is_value_byte).then_some(value.len());
    }
    let is_value = |c| u8::try_from(c).is_ok_and(is_value_byte);
    value.chars().all(is_value).then(|| value.chars().count())
}

/// Visible ASCII, spaces and tabs, and all bytes above 127.
const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The fields that may be forwarded, in order, within the limits.
pub fn forwardable<N: AsRef<str>, V: AsRef<str>>(
    fields: impl IntoIterator<Item = (N, V)>,
) -> impl Iterator<Item = (N, V)> {
    let mut limits = Limits::default();
    fields.into_iter().filter(move |(name, value)| {
        let (name, value) = (name.as_ref(), value.as_ref());
        !is_hop_by_hop(name) && limits.admit(name, value)
    })
}

/// Removes the fields that cannot be sent, and those of a connection. Returns the names of the
/// former.
pub fn remove_unsendable(fields: &mut Vec<(String, String)>) -> Vec<String> {
    let mut removed = Vec::new();
    let mut limits = Limits::default();
    fields.retain(|(name, value)| {
        if is_hop_by_hop(name) {
            return false;
        }
        let is_sent = limits.admit(name, value);
        if !is_sent {
            removed.push(name.clone());
        }
        is_sent
    });
    removed
}

/// How much one event or reply may still carry.
struct Limits {
    fields: usize,
    bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fields: MAX_FIELDS, bytes: MAX_BYTES }
    }
}

impl Limits {
    /// Takes the room for a field; `false` if there is none, or if it is no field.
    fn admit(&mut self, name: &str, value: &str) -> bool {
        let Some(size) = size(value).map(|size| name.len() + size) else { return false };
        if self.fields == 0 || size > self.bytes || !is_token(name) {
            return false;
        }
        self.fields -= 1;
        self.bytes -= size;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_fields_cross() {
        let fields = [
            ("Accept", "*/*"),
            ("X-Empty", ""),
            ("X-Tab", "a\tb"),
            ("Connection", "close"),
            ("content-LENGTH", "5"),
            ("Proxy-Authorization", "secret"),
            ("X-Split", "a\r\nX-Evil: 1"),
            ("X Space", "a"),
            ("X-Evil: 1\r\nX", "a"),
            ("", "a"),
            ("X-Byte", "a\u{e4}\u{80}\u{ff}"),
            ("X-Alphabet", "\u{100}"),
            ("X-Nul", "\0"),
            ("X-Delete", "\u{e4}\u{7f}"),
        ];
        let names: Vec<&str> = forwardable(fields).map(|(name, _)| name).collect();
        assert_eq!(names, ["Accept", "X-Empty", "X-Tab", "X-Byte"]);
        let mut fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let removed = remove_unsendable(&mut fields);
        assert_eq!(fields.iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
        let told = ["X-Split", "X Space", "X-Evil: 1\r\nX", "", "X-Alphabet", "X-Nul", "X-Delete"];
        assert_eq!(removed, told, "those of a connection are no loss");
    }

    #[test]
    fn fields_are_bounded_in_number_and_size() {
        let many = vec![("X", "y"); 2 * MAX_FIELDS];
        assert_eq!(forwardable(many).count(), MAX_FIELDS);
        for byte in ["y", "\u{e4}"] {
            let long = byte.repeat(MAX_BYTES - 1);
            let fields = [("X", long.as_str()), ("Y", long.as_str()), ("Z", "")];
            assert_eq!(forwardable(fields).count(), 1, "there is no room for a single byte more");
        }
    }

    #[test]
    fn bytes_become_text_and_the_same_bytes_again() {
        for byte in 0..=255_u8 {
            for value in [[b'a', byte, b'b'], [byte, 0xc3, 0xa4]] {
                let text = from_bytes(&value);
                let trimmed = trim(&value);
                match to_bytes(&text) {
                    Some(bytes) => assert_eq!(bytes, trimmed),
                    None => assert!(byte.is_ascii_control() && byte != b'\t', "{byte}"),
                }
                assert_eq!(is_clean(&text), to_bytes(&text).is_some());
            }
        }
        assert_eq!(from_bytes(b" \ta b\t "), "a b");
        assert_eq!(from_bytes(b" \t "), "");
        assert_eq!(from_bytes("Zürich".as_bytes()), "Z\u{c3}\u{bc}rich");
        assert_eq!(to_bytes("\u{100}"), None);
    }
}
