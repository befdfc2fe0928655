//! One live connection.
