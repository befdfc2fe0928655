// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 bc661c4abf9ce74d8cb1116fd4b77cbf2094da2f6a9137c2dd32f5e310ec4ef1
