//! Which HTTP header fields may cross the pipe. Both ends check: input from the other side is not
//! trusted.

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

/// A safe field value: visible ASCII, spaces and tabs.
pub fn is_clean(value: &str) -> bool {
    value.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e))
}

/// A trimmed field value as received; `None` if it is not clean.
pub fn clean(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    is_clean(text).then(|| text.trim_matches([' ', '\t']))
}

/// The fields that may be forwarded, in order, within the limits.
pub fn forwardable<N: AsRef<str>, V: AsRef<str>>(
    fields: impl IntoIterator<Item = (N, V)>,
) -> impl Iterator<Item = (N, V)> {
    let mut room = MAX_BYTES;
    let is_forwardable = move |(name, value): &(N, V)| {
        let (name, value) = (name.as_ref(), value.as_ref());
        let size = name.len() + value.len();
        let fits = size <= room && is_token(name) && is_clean(value) && !is_hop_by_hop(name);
        room -= if fits { size } else { 0 };
        fits
    };
    fields.into_iter().filter(is_forwardable).take(MAX_FIELDS)
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
            ("X-Alphabet", "ä"),
            ("X-Nul", "\0"),
        ];
        let names: Vec<&str> = forwardable(fields).map(|(name, _)| name).collect();
        assert_eq!(names, ["Accept", "X-Empty", "X-Tab"]);
    }

    #[test]
    fn fields_are_bounded_in_number_and_size() {
        let many = vec![("X", "y"); 2 * MAX_FIELDS];
        assert_eq!(forwardable(many).count(), MAX_FIELDS);
        let long = "y".repeat(MAX_BYTES - 1);
        let fields = [("X", long.as_str()), ("Y", long.as_str()), ("Z", "")];
        assert_eq!(forwardable(fields).count(), 1, "there is no room for a single byte more");
    }
}
