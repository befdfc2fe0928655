//! Waiting on a channel for a message that is likely to arrive at once.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

/// How often to yield under load, when one of many waiters is next.
pub(super) const SPINS_BUSY: usize = 4;
/// How often to yield when the system is otherwise idle: sleeping and waking takes longer than the
/// wait.
pub(super) const SPINS_IDLE: usize = 200;

/// Like [`Receiver::recv_timeout`], but first yields to other threads `spins` times. One of them is
/// likely to send the message, which saves both sides a sleep and a wake-up. The channel's own wait
/// starts by spinning, which only keeps the other threads from running.
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
