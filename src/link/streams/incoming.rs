//! An incoming body: the reader fills it, the consumer empties it and grants more credit.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::key::StreamKey;
use crate::event::Sink;
use crate::link::held::HeldMemory;
use crate::wire::{FIRST_CREDIT, Window, WireError};

/// Window of one body, in bytes, once its consumer has started reading.
const BEGUN_WINDOW: u64 = 256 * 1024;
/// Maximum window, for a path with a long delay.
const MAX_WINDOW: u64 = 2 * 1024 * 1024;
/// A consumer that waits longer than this although it keeps up is on a path with a long delay (or a
/// slow one, where a wider window does no harm).
const LONG_LINE_WAIT: Duration = Duration::from_millis(4);

/// An incoming body.
pub(in crate::link) struct IncomingStream {
    pub key: StreamKey,
    /// Guards the bytes not yet consumed. Never held across I/O.
    state: Mutex<Arrived>,
    /// Signalled when bytes or the end arrive.
    news: Condvar,
}

struct Arrived {
    window: Window,
    size: Size,
    /// Never more than was granted.
    bytes: VecDeque<u8>,
    end: Option<Result<(), String>>,
    /// The consumer is waiting on `news`.
    waited_for: bool,
    /// Takes bytes directly while the consumer waits.
    sink: Option<Arc<dyn Sink>>,
    /// When bytes last went to the sink.
    passed: Instant,
}

/// The result of `IncomingStream::push`.
#[derive(Debug)]
pub(in crate::link) struct Pushed {
    /// Whether bytes are left for the consumer.
    pub is_left: bool,
    /// Credit to grant to the peer.
    pub grant: Option<u32>,
}

/// The result of [`IncomingStream::take`].
#[derive(Debug)]
pub(in crate::link) struct Received {
    /// Number of bytes; 0 at the end of the body.
    pub count: usize,
    /// Credit to grant to the peer.
    pub grant: Option<u32>,
}

impl IncomingStream {
    pub(super) fn new(key: StreamKey, held: Arc<HeldMemory>, closed: Option<String>) -> Self {
        Self {
            key,
            state: Mutex::new(Arrived {
                window: Window::begin(),
                size: Size { bytes: FIRST_CREDIT, since: 0, held },
                bytes: VecDeque::new(),
                end: closed.map(Err),
                waited_for: false,
                sink: None,
                passed: Instant::now(),
            }),
            news: Condvar::new(),
        }
    }

    /// Adds received bytes. The sink takes what it can; for the rest, the consumer has to be woken.
    pub fn push(&self, bytes: &[u8]) -> Result<Pushed, WireError> {
        let mut state = self.state.lock();
        state.window.receive(self.key.id, bytes.len())?;
        state.size.since += bytes.len() as u64;
        let passed = match &state.sink {
            Some(sink) if state.waited_for && state.bytes.is_empty() => sink.take_now(bytes),
            Some(_) | None => 0,
        };
        let grant = if passed > 0 { state.pass(passed) } else { None };
        let rest = bytes.get(passed..).unwrap_or_default();
        state.bytes.extend(rest);
        Ok(Pushed { is_left: !rest.is_empty(), grant })
    }

    /// Passes bytes to `sink` while the consumer waits.
    pub fn pass_to(&self, sink: Arc<dyn Sink>) {
        self.state.lock().sink = Some(sink);
    }

    /// Wakes the consumer, if it sleeps, because bytes arrived.
    pub fn wake_consumer(&self) {
        self.wake(self.state.lock());
    }

    /// Records the end and the total that it states.
    pub fn end(&self, total: u64, before: impl FnOnce()) -> Result<(), WireError> {
        let mut state = self.state.lock();
        let agreed = state.window.end(self.key.id, total);
        if agreed.is_err() {
            before();
        }
        state.end.get_or_insert(agreed.map_err(|error| error.to_string()));
        self.wake(state);
        agreed
    }

    /// Marks the body as incomplete.
    pub fn fail(&self, reason: &str) {
        let mut state = self.state.lock();
        state.end.get_or_insert_with(|| Err(reason.to_owned()));
        self.wake(state);
    }

    /// Wakes the consumer, if it sleeps.
    fn wake(&self, state: MutexGuard<'_, Arrived>) {
        let waited_for = state.waited_for;
        drop(state);
        if waited_for {
            self.news.notify_one();
        }
    }

    /// The credit that a consumer grants, once, before its first wait: a producer may hold the
    /// first byte back until it sees that the body is read.
    pub fn welcome(&self) -> Option<u32> {
        let mut state = self.state.lock();
        let waits = state.bytes.is_empty() && state.end.is_none();
        if waits { state.grant(0) } else { None }
    }

    /// Takes bytes, waiting at most `timeout`; `None` if none arrived.
    pub fn take(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<Received>> {
        let began = Instant::now();
        let deadline = began + timeout;
        let mut state = self.state.lock();
        let waited = state.bytes.is_empty();
        while state.bytes.is_empty() {
            match &state.end {
                Some(Ok(())) => return Ok(Some(Received { count: 0, grant: None })),
                Some(Err(reason)) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason.clone()));
                }
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state.waited_for = true;
            self.news.wait_for(&mut state, left);
            state.waited_for = false;
        }
        // Two reads, because the bytes may wrap around. Reading from memory cannot fail.
        let mut count = state.bytes.read(buffer)?;
        count += state.bytes.read(&mut buffer[count..])?;
        if waited && began.elapsed() > LONG_LINE_WAIT {
            state.size.widen();
        }
        let grant = if state.end.is_some() { None } else { state.grant(count) };
        Ok(Some(Received { count, grant }))
    }

    #[cfg(test)]
    pub(super) fn is_waited_for(&self) -> bool {
        self.state.lock().waited_for
    }

    /// What was granted and received.
    pub fn window(&self) -> Window {
        self.state.lock().window
    }
}

impl Arrived {
    /// Records bytes taken by the consumer. Returns the credit to grant.
    fn grant(&mut self, taken: usize) -> Option<u32> {
        self.size.begin();
        self.window.take(taken, self.size.bytes)
    }

    /// Records bytes passed to the sink. Returns the credit to grant.
    fn pass(&mut self, count: usize) -> Option<u32> {
        let now = Instant::now();
        if now.duration_since(self.passed) > LONG_LINE_WAIT {
            self.size.widen();
        }
        self.passed = now;
        self.grant(count)
    }
}

/// The window size of a body.
struct Size {
    bytes: u64,
    /// Bytes received since the window was last widened.
    since: u64,
    held: Arc<HeldMemory>,
}

impl Size {
    /// Widens the initial window, once the consumer has started reading.
    fn begin(&mut self) {
        if self.bytes == FIRST_CREDIT {
            self.widen_to(BEGUN_WINDOW);
        }
    }

    /// Doubles the window, if it was used up since it was last widened.
    fn widen(&mut self) {
        if self.since >= self.bytes && self.bytes < MAX_WINDOW {
            self.widen_to(2 * self.bytes);
        }
    }

    fn widen_to(&mut self, bytes: u64) {
        if self.held.widen((bytes - self.bytes) as usize) {
            self.bytes = bytes;
            self.since = 0;
        }
    }
}

impl Drop for Size {
    fn drop(&mut self) {
        self.held.give_back((self.bytes - FIRST_CREDIT) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(held: &Arc<HeldMemory>) -> Size {
        Size { bytes: FIRST_CREDIT, since: 0, held: Arc::clone(held) }
    }

    #[test]
    fn a_window_widens_as_it_is_used_and_not_for_ever() {
        let held = Arc::new(HeldMemory::new(0));
        let mut size = size(&held);
        size.widen();
        assert_eq!(size.bytes, FIRST_CREDIT, "nothing has come");
        size.begin();
        for _ in 0..10 {
            let before = size.bytes;
            size.since = before - 1;
            size.widen();
            assert_eq!(size.bytes, before, "not all of it was used");
            size.since = before;
            size.widen();
            assert_eq!(size.bytes, MAX_WINDOW.min(2 * before));
        }
    }

    #[test]
    fn the_windows_of_a_peer_are_bounded_together_and_come_back() {
        let held = Arc::new(HeldMemory::new(0));
        let begun = |_| {
            let mut size = size(&held);
            size.begin();
            size
        };
        let sizes: Vec<Size> = (0..1000).map(begun).collect();
        let wide = sizes.iter().filter(|size| size.bytes == BEGUN_WINDOW).count() as u64;
        assert_eq!(wide, 32 * 1024 * 1024 / (BEGUN_WINDOW - FIRST_CREDIT));
        drop(sizes);
        assert_eq!(begun(0).bytes, BEGUN_WINDOW);
    }
}
