//! Relays bytes both ways between two streams until both directions have ended.
//!
//! A pair that does not end in order is reset on both sides: at the idle limit, if one side fails, and by the
//! kernel if this process is killed.
//!
//! In scope: half-close, reset, back-pressure, the idle limit, counting. Not in scope: how the two were
//! connected, and what the bytes mean.
//!
//! Each pair has one thread, which waits for both streams at once: half the threads of a pair of copying
//! loops, and no hand-over between them. Between two plain sockets splice(2) moves the bytes without
//! copying them into this process; otherwise they pass through a buffer. Pipe and buffer are borrowed
//! only while bytes are in transit, 64 KiB in each direction: a slow receiver stops its sender, and a
//! silent pair costs two sockets and a small stack.

mod direction;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::stream::{Stream, wait_any};
use direction::{Direction, DirectionError};

/// The limits of one pair.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelayLimits {
    /// How long the pair may be idle; none: without limit.
    pub idle: Option<Duration>,
}

/// The outcome of a pair.
#[derive(Debug)]
pub struct RelayOutcome {
    /// Bytes that the right side accepted from the left.
    pub to_right: u64,
    /// Bytes that the left side accepted from the right.
    pub to_left: u64,
    /// Why it ended.
    pub end: RelayEnd,
}

/// Why a pair ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both senders ended their direction.
    Complete,
    /// No byte moved within the limit; both were reset.
    Idle,
    /// This side failed or was reset, so both were reset.
    Broken(RelaySide, io::Error),
}

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelaySide {
    /// The first.
    Left,
    /// The second.
    Right,
}

/// Relays bytes on this thread until both directions have ended. Both streams are closed or reset when
/// it returns.
pub fn relay(left: Stream, right: Stream, limits: RelayLimits) -> RelayOutcome {
    left.set_reset_on_close(true);
    right.set_reset_on_close(true);
    let mut pair = Pair {
        left,
        right,
        to_right: Direction::new(),
        to_left: Direction::new(),
        hung_up: [false; 2],
    };
    let end = pair.run(limits);
    let Pair { left, right, to_right, to_left, .. } = pair;
    if matches!(end, RelayEnd::Complete) {
        // What is still being sent arrives, and then the ends, which have been passed on.
        left.set_reset_on_close(false);
        right.set_reset_on_close(false);
    }
    RelayOutcome { to_right: to_right.moved, to_left: to_left.moved, end }
}

struct Pair {
    left: Stream,
    right: Stream,
    to_right: Direction,
    to_left: Direction,
    /// Sides for which poll(2) has reported that both directions are closed. It would report that again
    /// and again.
    hung_up: [bool; 2],
}

impl Pair {
    fn run(&mut self, limits: RelayLimits) -> RelayEnd {
        let mut last_moved = Instant::now();
        loop {
            match self.step() {
                Err((side, error)) => return RelayEnd::Broken(side, error),
                Ok(_) if self.to_right.is_done && self.to_left.is_done => {
                    return RelayEnd::Complete;
                }
                Ok(true) => {
                    if limits.idle.is_some() {
                        last_moved = Instant::now();
                    }
                    continue;
                }
                Ok(false) => {}
            }
            let deadline = limits.idle.and_then(|idle| last_moved.checked_add(idle));
            match self.wait(deadline) {
                Ok(true) => {}
                Ok(false) => return RelayEnd::Idle,
                Err((side, error)) => return RelayEnd::Broken(side, error),
            }
        }
    }

    /// Moves what it can without blocking. True if anything moved.
    fn step(&mut self) -> Result<bool, (RelaySide, io::Error)> {
        let Self { left, right, to_right, to_left, .. } = self;
        // TLS's own records.
        for (stream, side, may_write) in [
            (&mut *left, RelaySide::Left, to_left.may_write),
            (&mut *right, RelaySide::Right, to_right.may_write),
        ] {
            if may_write && stream.holds_output() {
                match stream.flush() {
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err((side, e)),
                    _ => {}
                }
            }
        }
        let there = to_right.step(left, right).map_err(|fault| match fault {
            DirectionError::Reading(error) => (RelaySide::Left, error),
            DirectionError::Writing(error) => (RelaySide::Right, error),
        })?;
        let back = to_left.step(right, left).map_err(|fault| match fault {
            DirectionError::Reading(error) => (RelaySide::Right, error),
            DirectionError::Writing(error) => (RelaySide::Left, error),
        })?;
        Ok(there || back)
    }

    /// Waits until something may move. False at `deadline`.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool, (RelaySide, io::Error)> {
        let Self { left, right, to_right, to_left, hung_up } = self;
        let reading = |wanted| if wanted { PollFlags::IN } else { PollFlags::empty() };
        let writing = |wanted| if wanted { PollFlags::OUT } else { PollFlags::empty() };
        let writes_left = writing(to_left.wants_write() || left.holds_output());
        let writes_right = writing(to_right.wants_write() || right.holds_output());
        let polled = [
            (left.input(), reading(to_right.wants_read())),
            (left.output(), writes_left),
            (right.input(), reading(to_left.wants_read())),
            (right.output(), writes_right),
        ];
        // A side that is wanted in neither direction is watched only for resets, and no longer after its end.
        let mut wanted = Vec::with_capacity(polled.len());
        let mut places = [None; 4];
        for (at, (fd, flags)) in polled.into_iter().enumerate() {
            if !flags.is_empty() || (at % 2 == 0 && !hung_up[at / 2]) {
                places[at] = Some(wanted.len());
                wanted.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        let found = wait_any(&mut wanted, deadline).map_err(|error| (RelaySide::Left, error))?;
        let seen = places.map(|place| place.map_or(PollFlags::empty(), |at| wanted[at].revents()));
        let over = PollFlags::HUP | PollFlags::ERR;
        to_right.may_read |= seen[0].intersects(PollFlags::IN | over);
        to_left.may_write |= seen[1].intersects(PollFlags::OUT | over);
        to_left.may_read |= seen[2].intersects(PollFlags::IN | over);
        to_right.may_write |= seen[3].intersects(PollFlags::OUT | over);
        for (at, side, stream) in [(0, RelaySide::Left, &*left), (1, RelaySide::Right, &*right)] {
            let events = seen[2 * at] | seen[2 * at + 1];
            if events.intersects(over) {
                hung_up[at] = true;
            }
            if events.contains(PollFlags::ERR)
                && let Some(Ok(Some(error))) = stream.bottom().map(|socket| socket.take_error())
            {
                return Err((side, error));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::thread::{self, JoinHandle};

    use socket2::SockRef;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn tcp() -> (TcpStream, Stream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        (far, Stream::socket(listener.accept().unwrap().0).unwrap())
    }

    fn unix() -> (UnixStream, Stream) {
        let (far, near) = UnixStream::pair().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        (far, Stream::socket(near).unwrap())
    }

    fn start(left: Stream, right: Stream, idle: Option<Duration>) -> JoinHandle<RelayOutcome> {
        thread::spawn(move || relay(left, right, RelayLimits { idle }))
    }

    fn pattern(length: usize, seed: u8) -> Vec<u8> {
        (0..length).map(|at| (at / 251) as u8 ^ (at as u8) ^ seed).collect()
    }

    /// The far end of a connection of any kind.
    trait Far: Sync {
        fn send(&self, bytes: &[u8]);
        fn end(&self);
        fn receive(&self) -> Vec<u8>;
    }

    macro_rules! far {
        ($kind:ty) => {
            impl Far for $kind {
                fn send(&self, bytes: &[u8]) {
                    let mut socket = self;
                    socket.write_all(bytes).unwrap();
                }

                fn end(&self) {
                    self.shutdown(Shutdown::Write).unwrap();
                }

                fn receive(&self) -> Vec<u8> {
                    let (mut socket, mut bytes) = (self, Vec::new());
                    socket.read_to_end(&mut bytes).unwrap();
                    bytes
                }
            }
        };
    }
    far!(TcpStream);
    far!(UnixStream);

    /// Sends both ways at once; each end closes only its own direction.
    fn exchange(left: &dyn Far, right: &dyn Far, running: JoinHandle<RelayOutcome>) {
        const LENGTH: usize = 3_000_001;
        let (there, back) = (pattern(LENGTH, 1), pattern(LENGTH, 2));
        thread::scope(|scope| {
            for (far, sent, expected) in [(left, &there, &back), (right, &back, &there)] {
                scope.spawn(move || {
                    far.send(sent);
                    far.end();
                });
                scope.spawn(move || assert!(far.receive() == *expected));
            }
        });
        let outcome = running.join().unwrap();
        assert!(matches!(outcome.end, RelayEnd::Complete), "{outcome:?}");
        assert_eq!((outcome.to_left, outcome.to_right), (LENGTH as u64, LENGTH as u64));
    }

    #[test]
    fn bytes_and_ends_pass_both_ways_between_sockets_of_any_kind() {
        let ((a, left), (b, right)) = (tcp(), tcp());
        exchange(&a, &b, start(left, right, None));
        let ((a, left), (b, right)) = (unix(), tcp());
        exchange(&a, &b, start(left, right, None));
        let ((a, left), (b, right)) = (unix(), unix());
        exchange(&a, &b, start(left, right, Some(PATIENCE)));
    }

    #[test]
    fn one_direction_goes_on_after_the_other_has_ended() {
        let ((a, left), (b, right)) = (tcp(), tcp());
        let running = start(left, right, None);
        a.send(b"question");
        a.end();
        assert_eq!(b.receive(), b"question");
        for _ in 0..3 {
            b.send(b"answer ");
            let mut seen = [0; 7];
            (&a).read_exact(&mut seen).unwrap();
        }
        b.end();
        assert_eq!(a.receive(), b"");
        let outcome = running.join().unwrap();
        assert!(matches!(outcome.end, RelayEnd::Complete), "{outcome:?}");
        assert_eq!((outcome.to_right, outcome.to_left), (8, 21));
    }

    #[test]
    fn bytes_that_were_returned_come_first() {
        let ((a, mut left), (b, right)) = (tcp(), tcp());
        left.unread(b"early ".to_vec());
        let running = start(left, right, None);
        a.send(b"and late");
        a.end();
        b.end();
        assert_eq!(b.receive(), b"early and late");
        assert!(matches!(running.join().unwrap().end, RelayEnd::Complete));
    }

    #[test]
    fn a_reset_of_one_side_resets_the_other() {
        for side in [RelaySide::Left, RelaySide::Right] {
            let ((a, left), (b, right)) = (tcp(), tcp());
            let running = start(left, right, None);
            a.send(b"x");
            (&b).read_exact(&mut [0]).unwrap();
            let (gone, stays) = if side == RelaySide::Left { (a, b) } else { (b, a) };
            SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
            drop(gone);
            let error = (&stays).read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let outcome = running.join().unwrap();
            assert!(matches!(outcome.end, RelayEnd::Broken(s, _) if s == side), "{outcome:?}");
        }
    }

    #[test]
    fn a_reset_is_seen_while_its_bytes_wait_for_the_other_side() {
        let ((a, left), (b, right)) = (unix(), tcp());
        let running = start(left, right, None);
        // Nobody reads, so that one direction holds bytes that it cannot write.
        b.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let until = Instant::now() + PATIENCE;
        let mut stalled = 0;
        while stalled < 20 {
            match (&b).write(&[0; 65_536]) {
                Ok(count) => (sent, stalled) = (sent + count, 0),
                Err(_) => {
                    stalled += 1;
                    thread::yield_now();
                    let fd = rustix::event::PollFd::new(&b, PollFlags::OUT);
                    let _ = wait_any(&mut [fd], Some(Instant::now() + Duration::from_millis(5)));
                }
            }
            assert!(Instant::now() < until);
        }
        // Socket buffers and one buffer: far less than without back-pressure.
        assert!(sent < 16 << 20, "{sent}");
        SockRef::from(&b).set_linger(Some(Duration::ZERO)).unwrap();
        drop(b);
        let outcome = running.join().unwrap();
        assert!(matches!(outcome.end, RelayEnd::Broken(RelaySide::Right, _)), "{outcome:?}");
        drop(a);
    }

    #[test]
    fn an_idle_pair_is_reset_at_its_limit() {
        let ((a, left), (b, right)) = (tcp(), tcp());
        let running = start(left, right, Some(Duration::from_millis(50)));
        for mut end in [&a, &b] {
            let error = end.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        assert!(matches!(running.join().unwrap().end, RelayEnd::Idle));
    }
}
