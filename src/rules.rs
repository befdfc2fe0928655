//! Which peer may request what: lines `allow PEER VERB NOUN`, on the handling side.
//!
//! In scope: the meaning of the lines, their file, and the decision about one request. Not in
//! scope: who a peer is (`identity`), and how a request is refused (`handler`).
//!
//! - Words are separated by spaces or tabs. A word that begins with `#` starts a comment. Empty
//!   lines are ignored.
//! - `*` in PEER or NOUN matches any characters, including none, `/` and `.`: `backup-*`, `time/*`.
//!   As VERB it matches any.
//! - PEER is compared with the name in the peer's certificate, ignoring ASCII case.
//! - VERB is one of the methods that cross the pipe, in any case. `HEAD` is asked as `GET`.
//! - NOUN is compared with the decoded noun, case-sensitively. Parameters and the query are
//!   ignored. As handlers are named after verb and noun, `a/b` and `a_b` are two nouns of one
//!   method.
//! - `%XX` in PEER or NOUN is an encoded byte, as in a URL: a space is `%20`, a literal asterisk
//!   `%2A`.
//!
//! Anything that no line allows is refused; a file without lines allows nothing.

mod book;
mod pattern;
mod table;

pub use book::{LoadError, Rulebook};
pub(crate) use pattern::Pattern;
pub use table::{Question, Rule, Rules, RulesError};
