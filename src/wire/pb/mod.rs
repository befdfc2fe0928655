// Automatically generated mod.rs
pub mod restpipe;
// Made from proto/restpipe.proto, SHA-256 c31b8017d3958e8de209bceddae6dc695fb4bdd2fffdf0657defad36eafff2b7
