// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 f8ee801d52020a01d76da694fb19f94ee86fa592fdf1c8d1789b4783ae734c8c
