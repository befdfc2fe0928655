// Automatically generated mod.rs
pub mod restpipe;
