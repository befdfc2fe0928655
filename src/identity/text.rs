//! Untrusted text, escaped for one line of a message.

use std::path::Path;

/// A path with its control characters escaped.
pub(crate) fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// `text` with its control characters escaped.
pub(crate) fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, c| {
        if c.is_control() {
            clean.extend(c.escape_default())
        } else {
            clean.push(c)
        }
        clean
    })
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
