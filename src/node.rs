//! The two roles.
