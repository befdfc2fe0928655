//! Bytes, frames, messages.
#[allow(missing_docs, clippy::all, rustdoc::all)]
#[rustfmt::skip]
mod pb;
