//! The memory that one peer makes this side hold: its events with all that belongs to them, and the
//! bytes that it may send of bodies before they are read.

use std::sync::Arc;

use parking_lot::Mutex;

/// Maximum events of one peer in progress.
const MAX_EVENTS: usize = 2048;
/// Maximum bytes of events, besides two bodies in memory.
const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;
/// Maximum bytes of windows beyond the first credit of each body. Wide windows are for speed only:
/// they take nothing from events.
const MAX_WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// What one peer holds.
#[derive(Debug)]
pub(super) struct HeldMemory {
    max_event_bytes: usize,
    /// Never held across other work.
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    events: usize,
    event_bytes: usize,
    window_bytes: usize,
}

impl HeldMemory {
    /// With room for two bodies of `max_data`.
    pub fn new(max_data: usize) -> Self {
        Self { max_event_bytes: MAX_EVENT_BYTES + 2 * max_data, now: Mutex::default() }
    }

    /// Takes memory for an event; `None` if the peer holds too much already.
    pub fn hold_event(self: &Arc<Self>, bytes: usize) -> Option<HeldEvent> {
        let mut now = self.now.lock();
        if now.events >= MAX_EVENTS || now.event_bytes + bytes > self.max_event_bytes {
            return None;
        }
        now.events += 1;
        now.event_bytes += bytes;
        Some(HeldEvent { of: Arc::clone(self), bytes })
    }

    /// Takes memory for a wider window of a body. False if there is none left.
    pub fn widen(&self, bytes: usize) -> bool {
        let mut now = self.now.lock();
        let is_left = now.window_bytes + bytes <= MAX_WINDOW_BYTES;
        now.window_bytes += if is_left { bytes } else { 0 };
        is_left
    }

    /// Returns the memory of a window.
    pub fn give_back(&self, bytes: usize) {
        self.now.lock().window_bytes -= bytes;
    }
}

/// The memory of one event; returned when dropped.
#[derive(Debug)]
pub(super) struct HeldEvent {
    of: Arc<HeldMemory>,
    bytes: usize,
}

impl Drop for HeldEvent {
    fn drop(&mut self) {
        let mut now = self.of.now.lock();
        now.events -= 1;
        now.event_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_in_number_and_in_bytes_and_return_what_they_held() {
        let held = Arc::new(HeldMemory::new(0));
        let many: Vec<_> = std::iter::from_fn(|| held.hold_event(1)).collect();
        assert_eq!(many.len(), MAX_EVENTS);
        drop(many);
        let large: Vec<_> = std::iter::from_fn(|| held.hold_event(MAX_EVENT_BYTES / 4)).collect();
        assert_eq!(large.len(), 4);
        assert!(held.hold_event(1).is_none());
        drop(large);
        assert!(held.hold_event(MAX_EVENT_BYTES).is_some());
    }

    #[test]
    fn windows_take_nothing_from_events() {
        let held = Arc::new(HeldMemory::new(0));
        assert!(held.widen(MAX_WINDOW_BYTES));
        assert!(!held.widen(1));
        assert!(held.hold_event(MAX_EVENT_BYTES).is_some());
        held.give_back(1);
        assert!(held.widen(1));
    }
}
