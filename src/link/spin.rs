//! Waiting on a channel for something that is likely to come at once.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

/// How often to yield where many wait and one of them is bound to be next.
pub(super) const SPINS_BUSY: usize = 4;
/// How often to yield where nobody else has anything to do: to sleep and be woken takes longer than
/// what is waited for.
pub(super) const SPINS_IDLE: usize = 200;

/// As [`Receiver::recv_timeout`], but yields to other threads so many times first. One of them is
/// likely to send what is waited for, and then neither side pays for a sleep and a wake-up; the
/// channel's own wait begins with spinning, which only keeps the others from it.
pub(super) fn receive<T>(
    receiver: &Receiver<T>,
    timeout: Duration,
    spins: usize,
) -> Result<T, RecvTimeoutError> {
    for _ in 0..spins {
        match receiver.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
    receiver.recv_timeout(timeout)
}
