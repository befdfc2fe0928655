// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 2cc7b7795823b2211a7aaf69ebdcb4c9bdcdc3b150e67371223fa9dd92ea2d32
