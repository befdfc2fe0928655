//! What TLS requires of the stream below it.

use std::io::{self, Read, Write};
use std::time::Instant;

/// A connection whose reads and writes return `WouldBlock` instead of waiting.
pub(super) trait NonblockingTransport: Read + Write {
    /// Waits until it may be ready for `event`. `TimedOut` at `deadline`.
    fn wait(&self, event: ReadyEvent, deadline: Instant) -> io::Result<()>;
    /// Whether reading may return something although poll(2) reports nothing.
    fn holds_input(&self) -> bool;
    /// Whether written bytes still wait for the socket: [`Write::flush`] sends them.
    fn holds_output(&self) -> bool;
    /// Ends the writing direction. `WouldBlock`: not yet.
    fn close_writing(&mut self) -> io::Result<()>;
}

/// The event to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyEvent {
    /// Bytes, the end or an error can be read.
    Readable,
    /// Bytes can be written.
    Writable,
}
