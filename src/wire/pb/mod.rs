// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 666d8afae6257f69fbab2e453325428d7423e50c6f8b815de02d2fb9032585ce
