//! Files of this machine.
//!
//! In scope: mechanisms without a subject of their own. Not in scope: what the files hold.

pub(crate) mod changes;
