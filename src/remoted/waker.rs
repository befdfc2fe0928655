//! Wakes a thread that waits in poll(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Readable from [`Waker::wake`] until [`Waker::clear`].
pub(super) struct Waker(OwnedFd);

impl Waker {
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// The state that the woken thread checks must be set before.
    pub fn wake(&self) {
        // It fails only after 2^64 wakes without a clear.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// The woken thread calls this before it checks that state.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
