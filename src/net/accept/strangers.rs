//! Connections that have not shown who they are: how many there may be, whose they may be, how long
//! each may take.
//!
//! In scope: a place for each, the time for its first byte and for all of it, ending whoever leaves
//! for a newcomer. Who that is, `table` says. Not in scope: what shows who somebody is, and logs.

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

use crate::sync::deadline::time_left;
pub(crate) use table::SourceAddress;
use table::{Admission, Table};

/// The time for a stranger's first byte. An honest one sends it with the end of its TCP handshake;
/// three seconds leave time for a lost segment over a satellite (three round trips of 0.6 s).
pub(crate) const FIRST_BYTE: Duration = Duration::from_secs(3);

/// Why one is not served that did not stay.
pub(crate) const GONE: &str = "it ended without a byte";
/// Why a newcomer is refused.
pub(crate) const CROWDED: &str = "too many have not shown who they are";
/// Why one ends that was let in.
pub(crate) const DISPLACED: &str =
    "a newcomer took its place, because too many have not shown who they are";

/// The strangers of a port, by sockets of one kind.
pub(crate) struct Strangers<S> {
    /// The time for all that a stranger does.
    time: Duration,
    /// Guards who is here. No socket is touched while it is held.
    table: Mutex<Table<Arc<S>>>,
}

impl<S: AsFd> Strangers<S> {
    /// So many at once, for at most `time` each.
    pub fn new(most: usize, time: Duration) -> Arc<Self> {
        Arc::new(Self { time, table: Mutex::new(Table::new(most)) })
    }

    /// A place for a new connection, and another's end where that has to leave for it. None where
    /// there is no place. It never waits.
    pub fn admit(
        self: &Arc<Self>,
        origin: SourceAddress,
        socket: &Arc<S>,
        now: Instant,
    ) -> Option<Stranger<S>> {
        let entered = self.table.lock().enter(origin, Arc::clone(socket), now);
        let Admission { number, displaced } = entered?;
        if let Some(displaced) = displaced {
            reset_when_closed(&displaced);
            // It wakes the thread that serves it. It fails for one that has ended by itself.
            let _ = SockRef::from(&*displaced).shutdown(std::net::Shutdown::Both);
        }
        let (of, until) = (Arc::clone(self), now + self.time);
        let first_until = until.min(now + FIRST_BYTE);
        Some(Stranger { of, origin, number, first_until, until })
    }
}

/// The place of one of them, free again when it is dropped.
pub(crate) struct Stranger<S: AsFd> {
    of: Arc<Strangers<S>>,
    origin: SourceAddress,
    number: u64,
    first_until: Instant,
    /// When it has to have shown who it is.
    pub until: Instant,
}

impl<S: AsFd> Stranger<S> {
    /// Waits for the first byte, or the end, of its socket. False if none came in time.
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

    /// Whether a newcomer has its place. Its socket is, or will be at once, shut down.
    pub fn is_displaced(&self) -> bool {
        !self.of.table.lock().has(self.origin, self.number)
    }

    /// It has shown who it is. False if it was too late: a newcomer has its place.
    pub fn leave(self) -> bool {
        self.remove().is_some()
    }

    fn remove(&self) -> Option<Arc<S>> {
        self.of.table.lock().leave(self.origin, self.number)
    }
}

impl<S: AsFd> Drop for Stranger<S> {
    fn drop(&mut self) {
        // The last one who has the socket closes it, and not under the lock.
        drop(self.remove());
    }
}

/// Whether the other side has ended already, without a byte. Of a flood that keeps the queue full most
/// have by the time they are accepted; it takes one call to see that, and no thread.
pub(crate) fn has_gone(socket: &impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(socket, &mut [0; 1], flags) {
        Ok((_, count)) => count == 0,
        Err(error) => error != Errno::WOULDBLOCK && error != Errno::INTR,
    }
}

/// Has a socket end with a reset, which leaves the system nothing to keep: a close in due form takes
/// memory and a minute for each.
pub(crate) fn reset_when_closed(socket: &impl AsFd) {
    // It fails for a Unix socket, which leaves nothing either.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
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
