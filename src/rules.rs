//! Which peer may ask what: lines `allow PEER VERB NOUN`, on the handling side.
//!
//! In scope: what the lines mean, the file that has them, and the decision about one request. Not in
//! scope: who a peer is (`identity`), and how a request is refused (`handler`).
//!
//! - Words are separated by spaces or tabs. A word that begins with `#` begins a comment. Empty
//!   lines mean nothing.
//! - `*` in PEER or NOUN stands for any characters, also none, and also `/` and `.`: `backup-*`,
//!   `time/*`. As VERB it stands for any.
//! - PEER is compared with the name in the peer's certificate, without regard to the case of ASCII
//!   letters.
//! - VERB is one of the methods that cross the pipe, in any case. `HEAD` is asked as `GET`.
//! - NOUN is compared with the decoded noun, with regard to case. Parameters and the query are
//!   ignored. As handlers are named after verb and noun, `a/b` and `a_b` are two nouns of one method.
//! - `%XX` in PEER or NOUN is the byte of that number, as in a URL: a space is `%20`, an asterisk
//!   that is none but itself `%2A`.
//!
//! Whatever no line allows is refused; a file without lines allows nothing.

mod book;
mod pattern;
mod table;

pub use book::{LoadError, Rulebook};
pub(crate) use pattern::Pattern;
pub use table::{Question, Rule, Rules, RulesError};
