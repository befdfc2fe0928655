//! Why a peer closes a connection, as a code and as text.

use std::borrow::Cow;

/// Maximum length of the text, in bytes; it has to fit into a heartbeat.
const MAX_TEXT: usize = 512;

/// A peer's last message before it closes a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The reason, for programs.
    pub reason: GoodbyeReason,
    /// The reason, for people; at most 512 bytes. Sent by the peer, so it must be escaped.
    pub text: String,
}

/// Why a connection is closed, as far as the receiver has to react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// The receiver's certificate is no longer accepted.
    Certificate,
    /// A newer connection of the same name replaced this one.
    Replaced,
    /// The same, and two machines seem to share a key: stay away for at least 30 s.
    DuplicateIdentity,
    /// A reason unknown to this version.
    Other(u32),
}

impl GoodbyeReason {
    pub(super) const fn code(self) -> u32 {
        match self {
            Self::Certificate => 1,
            Self::Replaced => 2,
            Self::DuplicateIdentity => 3,
            Self::Other(code) => code,
        }
    }

    const fn parse(code: u32) -> Self {
        match code {
            1 => Self::Certificate,
            2 => Self::Replaced,
            3 => Self::DuplicateIdentity,
            code => Self::Other(code),
        }
    }
}

impl Goodbye {
    /// Truncates the text to the maximum length.
    pub fn bounded(mut self) -> Self {
        let mut end = self.text.len().min(MAX_TEXT);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.truncate(end);
        self
    }

    /// Reads a goodbye from the fields of a heartbeat.
    pub(super) fn announced(code: Option<u32>, text: Option<Cow<'_, str>>) -> Option<Self> {
        let reason = GoodbyeReason::parse(code?);
        Some(Self { reason, text: text.map(Cow::into_owned).unwrap_or_default() }.bounded())
    }
}
