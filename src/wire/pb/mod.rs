// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 ffb659f034bf255167caf6c8880dcdf6e8578cbe1b8f017504e788ce2e55fec6
