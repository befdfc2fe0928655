//! Waiting on a channel for something that is likely to come at once.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

/// How often to give way before sleeping.
const TURNS: usize = 4;

/// As [`Receiver::recv_timeout`], but gives way to other threads a few times first. Under load one of
/// them sends what is waited for, and then neither side pays for a sleep and a wake-up; the channel's
/// own wait begins with spinning, which only keeps the others from it.
pub(super) fn receive<T>(receiver: &Receiver<T>, timeout: Duration) -> Result<T, RecvTimeoutError> {
    for _ in 0..TURNS {
        match receiver.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
    receiver.recv_timeout(timeout)
}
