//! The local HTTP port.
