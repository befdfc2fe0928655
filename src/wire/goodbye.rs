//! Why a peer closes a connection, in a word and in words.

use std::borrow::Cow;

/// The longest text of a goodbye, in bytes; it has to fit into a heartbeat.
const MAX_TEXT: usize = 512;

/// What a peer says before it closes a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The reason, for the program.
    pub reason: GoodbyeReason,
    /// The reason, for people; at most 512 bytes. From a peer, so to be escaped.
    pub text: String,
}

/// Why a connection is closed, as far as the other side has to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// The receiver's certificate counts no longer.
    Certificate,
    /// A newer connection of the same name has taken over.
    Replaced,
    /// The same, and two machines seem to share a key: stay away for at least 30 s.
    DuplicateIdentity,
    /// One that a later peer may have.
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
    /// One with a text that fits.
    pub fn bounded(mut self) -> Self {
        let mut end = self.text.len().min(MAX_TEXT);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.truncate(end);
        self
    }

    /// What the fields of a heartbeat say.
    pub(super) fn announced(code: Option<u32>, text: Option<Cow<'_, str>>) -> Option<Self> {
        let reason = GoodbyeReason::parse(code?);
        Some(Self { reason, text: text.map(Cow::into_owned).unwrap_or_default() }.bounded())
    }
}
