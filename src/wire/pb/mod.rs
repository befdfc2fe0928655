// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 fce18dba2a2589238718bed53cd50553a67d1fb419b96f147bf4bfe3920bca01
