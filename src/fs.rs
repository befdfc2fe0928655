//! Files: opened without blocking, read with a limit, replaced atomically, also by root in another
//! user's directory.
//!
//! In scope: one way to do each of these. Not in scope: what the files hold; the files that a handler
//! serves, which stay inside their own directory (`handler::files`).

pub(crate) mod changes;
mod directory;
mod read;
mod replace;
mod secret;

pub(crate) use directory::{Directory, create_directories, read_guarded};
pub(crate) use read::{is_missing, open, read, read_open};
pub(crate) use replace::{Replacement, replace};
pub(crate) use secret::read_secret;
