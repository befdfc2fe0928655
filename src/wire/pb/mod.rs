// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 dfa5277d8102da041a72a191d0662d97e567f4d0f2e4420478d46703e53d4f58
