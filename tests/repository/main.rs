//! Checks of the project's own files: imports, generated code, documents, and that no test is left out.

#[path = "../support/mod.rs"]
mod support;

mod all_tests;
mod layers;
mod proto;
mod readme;
