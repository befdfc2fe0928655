//! Limits for connections that have not authenticated yet: their number, their origins, and their
//! time.
//!
//! In scope: a slot for each, the time for its first byte and for the whole handshake, closing the
//! one displaced by a newcomer (chosen by `table`). Not in scope: authentication, and logs.

mod table;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;

use crate::net::reset::set_reset_on_close;
use crate::sync::deadline::time_left;
pub(crate) use table::SourceAddress;
use table::{Admission, Table};

/// The time for a stranger's first byte. An honest client sends it right after the TCP handshake;
/// three seconds allow for a lost segment over a satellite (three round trips of 0.6 s).
pub(crate) const FIRST_BYTE: Duration = Duration::from_secs(3);

/// The reason for a connection that closed at once.
pub(crate) const GONE: &str = "it ended without a byte";
/// The reason for a refused newcomer.
pub(crate) const CROWDED: &str = "too many have not shown who they are";
/// The reason for a displaced connection.
pub(crate) const DISPLACED: &str =
    "a newcomer took its place, because too many have not shown who they are";

/// The unauthenticated connections of a port.
pub(crate) struct Strangers<S> {
    /// The time for a stranger to authenticate.
    time: Duration,
    /// Guards the table. Never held across I/O.
    table: Mutex<Table<Arc<S>>>,
}

impl<S: AsFd> Strangers<S> {
    /// At most `most` at once, for at most `time` each.
    pub fn new(most: usize, time: Duration) -> Arc<Self> {
        Arc::new(Self { time, table: Mutex::new(Table::new(most)) })
    }

    /// Takes a slot for a new connection, closing another one if it is displaced. `None` if there
    /// is no slot. Never blocks.
    pub fn admit(
        self: &Arc<Self>,
        origin: SourceAddress,
        socket: &Arc<S>,
        now: Instant,
    ) -> Option<Stranger<S>> {
        let entered = self.table.lock().enter(origin, Arc::clone(socket), now);
        let Admission { number, displaced } = entered?;
        if let Some(displaced) = displaced {
            set_reset_on_close(&displaced, true);
            // Wakes the thread that serves it. Fails if the connection has closed already.
            let _ = SockRef::from(&*displaced).shutdown(std::net::Shutdown::Both);
        }
        let (of, until) = (Arc::clone(self), now + self.time);
        let first_until = until.min(now + FIRST_BYTE);
        Some(Stranger { of, origin, number, first_until, until })
    }
}

/// The slot of one stranger, freed when dropped.
pub(crate) struct Stranger<S: AsFd> {
    of: Arc<Strangers<S>>,
    origin: SourceAddress,
    number: u64,
    first_until: Instant,
    /// The deadline for authentication.
    pub until: Instant,
}

impl<S: AsFd> Stranger<S> {
    /// Waits for the first byte or the end of the stream. False on a timeout.
    pub fn wait_first_byte(&self, socket: &S) -> io::Result<bool> {
        loop {
            let left = time_left(self.first_until);
            let timeout =
                Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
            match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.of.table.lock().hear(self.origin, self.number);
        Ok(true)
    }

    /// Whether a newcomer displaced it. Its socket is shut down or about to be.
    pub fn is_displaced(&self) -> bool {
        !self.of.table.lock().has(self.origin, self.number)
    }

    /// Called after authentication. False if a newcomer displaced it before.
    pub fn leave(self) -> bool {
        self.remove().is_some()
    }

    fn remove(&self) -> Option<Arc<S>> {
        self.of.table.lock().leave(self.origin, self.number)
    }
}

impl<S: AsFd> Drop for Stranger<S> {
    fn drop(&mut self) {
        // Dropping the last handle closes the socket, so not under the lock.
        drop(self.remove());
    }
}

/// Whether the other side has closed without sending a byte. In a flood that keeps the queue full
/// most have done so before they are accepted; detecting it takes one system call and no thread.
pub(crate) fn has_gone(socket: &impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(socket, &mut [0; 1], flags) {
        Ok((_, count)) => count == 0,
        Err(error) => error != Errno::WOULDBLOCK && error != Errno::INTR,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, Arc<UnixStream>) {
        let (far, near) = UnixStream::pair().unwrap();
        (far, Arc::new(near))
    }

    #[test]
    fn whoever_is_displaced_sees_its_end_and_cannot_come_in_any_more() {
        let strangers = Strangers::new(1, Duration::from_secs(60));
        let now = Instant::now();
        let (mut far, near) = pair();
        let first = strangers.admit(SourceAddress::Local, &near, now).unwrap();
        let (_other, other) = pair();
        let v4 = SourceAddress::V4([192, 0, 2, 1].into());
        let second = strangers.admit(v4, &other, now).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        assert!(first.wait_first_byte(&near).unwrap(), "its end wakes it");
        assert!(first.is_displaced() && !second.is_displaced());
        assert!(!first.leave());
        assert!(second.leave());
        assert!(Arc::into_inner(other).is_some(), "nobody else has it");
    }

    #[test]
    fn one_that_has_gone_is_told_from_one_that_says_nothing_yet() {
        let (mut far, near) = pair();
        assert!(!has_gone(&near));
        far.write_all(b"x").unwrap();
        drop(far);
        assert!(!has_gone(&near), "it has said something first");
        let (far, near) = pair();
        drop(far);
        assert!(has_gone(&near));
    }

    #[test]
    fn a_first_byte_is_waited_for_until_its_time() {
        let strangers = Strangers::new(2, Duration::ZERO);
        let (mut far, near) = pair();
        let stranger = strangers.admit(SourceAddress::Local, &near, Instant::now()).unwrap();
        assert!(!stranger.wait_first_byte(&near).unwrap());
        far.write_all(b"x").unwrap();
        assert!(stranger.wait_first_byte(&near).unwrap());
        drop(stranger);
        assert!(Arc::into_inner(near).is_some(), "nobody else has it");
    }
}
