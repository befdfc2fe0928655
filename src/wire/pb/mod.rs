// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 a448bfa5e164749be15316ba6700f708f4ffb52b7f5c351e5b76a08a1747d26a
