//! Waiting for several descriptors at once.

use std::io;
use std::time::Instant;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

use crate::sync::deadline::time_left;

/// Waits until one of these has an event. False at `deadline`; without one it waits indefinitely.
pub(in crate::remoted) fn wait_any(
    polled: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    loop {
        // Beyond the range of a `Timespec` there is no limit.
        let timeout = deadline.and_then(|deadline| Timespec::try_from(time_left(deadline)).ok());
        match poll(polled, timeout.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
