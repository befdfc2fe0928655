//! The bodies that cross a link in pieces: who sends them, who takes them, and on whose credit.
//!
//! A body has two ends. [`Incoming`] is filled by the reader thread, which waits for nothing, and is
//! emptied by whoever consumes the body, who thereby grants more. [`Outbound`] is spent by whoever
//! produces the body, who waits there for credit and for room on the way out. A consumer that stalls
//! stalls its own producer and nobody else.

mod incoming;
mod outbound;
mod room;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

pub(super) use incoming::{Incoming, Pushed};
pub(super) use outbound::{Leave, Outbound};
use room::Room;

use super::lock;
use crate::wire::{StreamSide, Window, WireError};

/// Most bodies in pieces on one link, in each direction.
const MAX_STREAMS: usize = 4096;

/// A body of a link: which side asked the event, and the event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Whether this side asked the event.
    pub ours: bool,
    /// The event's id.
    pub id: u32,
}

impl Key {
    /// What a frame from the peer is about.
    pub const fn of_frame(side: StreamSide, id: u32) -> Self {
        Self { ours: matches!(side, StreamSide::Answerer), id }
    }

    /// What this side is when it sends a frame about it.
    pub const fn side(self) -> StreamSide {
        if self.ours { StreamSide::Asker } else { StreamSide::Answerer }
    }
}

/// All bodies in pieces of a link.
#[derive(Default)]
pub(super) struct Streams {
    /// Guards which bodies there are. Held for moments.
    table: Mutex<Table>,
    /// What consumers may have under way beyond what every body may.
    room: Arc<Room>,
}

#[derive(Default)]
struct Table {
    incoming: HashMap<Key, Arc<Incoming>>,
    outbound: HashMap<Key, Arc<Outbound>>,
    /// Bodies that the peer was told to stop, and has not ended yet: what still comes is dropped.
    stopped: HashMap<Key, Window>,
    closed: Option<String>,
}

impl Streams {
    /// Begins a body that the peer sends.
    pub fn receive(&self, key: Key) -> Result<Arc<Incoming>, WireError> {
        let mut table = lock(&self.table);
        let taken = table.incoming.contains_key(&key) || table.stopped.contains_key(&key);
        if taken || table.incoming.len() + table.stopped.len() >= MAX_STREAMS {
            return Err(WireError::DuplicateId(key.id));
        }
        let incoming = Arc::new(Incoming::new(key, Arc::clone(&self.room), table.closed.clone()));
        table.incoming.insert(key, Arc::clone(&incoming));
        Ok(incoming)
    }

    /// Begins a body that this side sends.
    pub fn send(&self, key: Key) -> Arc<Outbound> {
        let mut table = lock(&self.table);
        let outbound = Arc::new(Outbound::new(key, table.closed.clone()));
        table.outbound.insert(key, Arc::clone(&outbound));
        outbound
    }

    /// A body that this side sends has ended, well or not.
    pub fn sent(&self, key: Key) {
        lock(&self.table).outbound.remove(&key);
    }

    /// Whether this side is still sending this body.
    pub fn is_sending(&self, key: Key) -> bool {
        lock(&self.table).outbound.contains_key(&key)
    }

    /// A chunk came. Returns whose it is and what became of it.
    pub fn chunk(
        &self,
        key: Key,
        bytes: &[u8],
    ) -> Result<Option<(Arc<Incoming>, Pushed)>, WireError> {
        let mut table = lock(&self.table);
        if let Some(incoming) = table.incoming.get(&key) {
            let incoming = Arc::clone(incoming);
            drop(table);
            let pushed = incoming.push(bytes)?;
            return Ok(Some((incoming, pushed)));
        }
        match table.stopped.get_mut(&key) {
            Some(window) => window.receive(key.id, bytes.len()).map(|()| None),
            None => Err(WireError::NoSuchStream(key.id)),
        }
    }

    /// The end of a body came. Where it is a wrong one, `before` is called before anybody is told.
    pub fn end(&self, key: Key, total: u64, before: impl FnOnce()) -> Result<(), WireError> {
        match self.finish(key)? {
            Some(incoming) => incoming.end(total, before),
            None => Ok(()),
        }
    }

    /// A body stays incomplete. Where anybody still wants it, `before` is called before they are told.
    pub fn reset(&self, key: Key, reason: &str, before: impl FnOnce()) -> Result<(), WireError> {
        if let Some(incoming) = self.finish(key)? {
            before();
            incoming.fail(&format!("the other side gave it up: {}", reason.escape_debug()));
        }
        Ok(())
    }

    /// Takes out a body that has ended; none where nobody wants it any more.
    fn finish(&self, key: Key) -> Result<Option<Arc<Incoming>>, WireError> {
        let mut table = lock(&self.table);
        match (table.incoming.remove(&key), table.stopped.remove(&key)) {
            (Some(incoming), _) => Ok(Some(incoming)),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(WireError::NoSuchStream(key.id)),
        }
    }

    /// Credit came; where the body has ended, it crossed that on its way.
    pub fn credit(&self, key: Key, count: u32) -> Result<(), WireError> {
        let outbound = lock(&self.table).outbound.get(&key).cloned();
        outbound.map_or(Ok(()), |outbound| outbound.grant(count))
    }

    /// The peer wants no more of a body. False when there is none (any more).
    pub fn stop(&self, key: Key, reason: &str) -> bool {
        let outbound = lock(&self.table).outbound.get(&key).cloned();
        outbound.map(|outbound| outbound.stop(reason)).is_some()
    }

    /// Nobody takes this body any more. False when it has ended, so that the peer need not be told.
    pub fn abandon(&self, incoming: &Incoming) -> bool {
        let mut table = lock(&self.table);
        if table.incoming.remove(&incoming.key).is_none() {
            return false;
        }
        table.stopped.insert(incoming.key, incoming.window());
        true
    }

    /// The link has ended, and every body with it.
    pub fn close(&self, reason: &str) {
        let (incoming, outbound) = {
            let mut table = lock(&self.table);
            table.closed = Some(reason.to_owned());
            table.stopped.clear();
            (std::mem::take(&mut table.incoming), std::mem::take(&mut table.outbound))
        };
        incoming.values().for_each(|incoming| incoming.fail(reason));
        outbound.values().for_each(|outbound| outbound.stop(reason));
    }

    /// How many there are, both ways.
    pub fn len(&self) -> usize {
        let table = lock(&self.table);
        table.incoming.len() + table.outbound.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let table = lock(&self.table);
        table.incoming.is_empty() && table.outbound.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::outbound::MAX_QUEUED;
    use super::*;

    const KEY: Key = Key { ours: true, id: 7 };
    /// What may be under way to a consumer that has begun.
    const WINDOW: u32 = 256 * 1024;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bytes_come_out_as_they_went_in_and_grant_more() {
        let streams = Streams::default();
        let incoming = streams.receive(KEY).unwrap();
        streams.chunk(KEY, b"one").unwrap();
        streams.chunk(KEY, b"two").unwrap();
        let mut buffer = [0; 4];
        let taken = incoming.take(&mut buffer, SECOND).unwrap().unwrap();
        assert_eq!((taken.count, &buffer), (4, b"onet"));
        assert_eq!(taken.grant, Some(WINDOW - 65_536 + 4));
        streams.end(KEY, 6, || ()).unwrap();
        let taken = incoming.take(&mut buffer, SECOND).unwrap().unwrap();
        assert_eq!((taken.count, &buffer[..2]), (2, &b"wo"[..]));
        assert_eq!(incoming.take(&mut buffer, SECOND).unwrap().unwrap().count, 0);
        assert!(streams.is_empty());
    }

    #[test]
    fn a_consumer_that_waits_shows_it_once() {
        let streams = Streams::default();
        let other = Key { ours: false, ..KEY };
        let (incoming, outbound) = (streams.receive(KEY).unwrap(), streams.send(other));
        assert_eq!(outbound.wait(true, Duration::ZERO), Leave::Wait);
        let count = incoming.welcome().unwrap();
        assert_eq!(count, WINDOW - 65_536);
        streams.credit(other, count).unwrap();
        assert_eq!(outbound.wait(true, Duration::ZERO), Leave::Send(WINDOW.into()));
        assert_eq!(incoming.welcome(), None);
        streams.chunk(KEY, &[0; 65_536]).unwrap();
        incoming.take(&mut [0; 65_536], SECOND).unwrap().unwrap();
        streams.end(KEY, 65_536, || ()).unwrap();
        assert_eq!(incoming.welcome(), None, "at the end nothing is granted");
    }

    #[test]
    fn what_somebody_waits_for_goes_past_them_as_far_as_it_is_taken() {
        struct Some3(Mutex<Vec<u8>>);
        impl crate::event::Sink for Some3 {
            fn take_now(&self, bytes: &[u8]) -> usize {
                let count = bytes.len().min(3);
                lock(&self.0).extend_from_slice(&bytes[..count]);
                count
            }
        }
        let streams = Streams::default();
        let incoming = streams.receive(KEY).unwrap();
        let sink = Arc::new(Some3(Mutex::default()));
        incoming.pass_to(Arc::clone(&sink) as _);
        let (incoming_there, mut buffer) = (Arc::clone(&incoming), [0; 9]);
        let (_, pushed) = streams.chunk(KEY, b"0").unwrap().unwrap();
        assert!(pushed.is_left, "nobody waits");
        assert_eq!(incoming.take(&mut buffer, SECOND).unwrap().unwrap().count, 1);
        let waiting = std::thread::spawn(move || {
            let taken = incoming_there.take(&mut buffer, 30 * SECOND).unwrap().unwrap();
            buffer[..taken.count].to_vec()
        });
        let (incoming, pushed) = loop {
            // Until it waits, they are only queued; so none may be sent.
            if incoming.is_waited_for() {
                break streams.chunk(KEY, b"abcdef").unwrap().unwrap();
            }
            std::thread::yield_now();
        };
        assert!(pushed.is_left);
        incoming.tell_consumer();
        assert_eq!(waiting.join().unwrap(), b"def");
        assert_eq!(*lock(&sink.0), b"abc");
    }

    #[test]
    fn an_end_is_certain_or_an_error() {
        let streams = Streams::default();
        let mut buffer = [0; 4];
        let incoming = streams.receive(KEY).unwrap();
        assert!(matches!(streams.end(KEY, 1, || ()), Err(WireError::WrongTotal { .. })));
        assert!(incoming.take(&mut buffer, SECOND).is_err());
        let incoming = streams.receive(KEY).unwrap();
        streams.chunk(KEY, b"half").unwrap();
        streams.reset(KEY, "gone", || ()).unwrap();
        assert_eq!(incoming.take(&mut buffer, SECOND).unwrap().unwrap().count, 4);
        assert!(incoming.take(&mut buffer, SECOND).unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn what_nobody_wants_is_dropped_until_its_end_and_not_longer() {
        let streams = Streams::default();
        let incoming = streams.receive(KEY).unwrap();
        assert!(streams.abandon(&incoming));
        assert!(!streams.abandon(&incoming));
        streams.chunk(KEY, &[0; 65_536]).unwrap();
        assert_eq!(streams.chunk(KEY, b"x").err(), Some(WireError::BeyondCredit(7)));
        streams.reset(KEY, "", || ()).unwrap();
        assert_eq!(streams.chunk(KEY, b"x").err(), Some(WireError::NoSuchStream(7)));
        assert_eq!(streams.end(KEY, 0, || ()), Err(WireError::NoSuchStream(7)));
        assert_eq!(streams.reset(KEY, "", || ()), Err(WireError::NoSuchStream(7)));
        assert_eq!(streams.credit(KEY, 1), Ok(()), "it may have crossed the end");
    }

    #[test]
    fn a_producer_waits_for_credit_and_for_room() {
        let streams = Streams::default();
        let outbound = streams.send(KEY);
        let none = Duration::ZERO;
        assert_eq!(outbound.wait(false, none), Leave::Send(65_536));
        assert_eq!(outbound.wait(true, none), Leave::Wait, "nobody reads yet");
        for _ in 0..MAX_QUEUED {
            outbound.spend(16_384);
        }
        streams.credit(KEY, 10).unwrap();
        assert_eq!(outbound.wait(false, none), Leave::Wait, "no room");
        outbound.written();
        assert_eq!(outbound.wait(true, none), Leave::Send(10));
        streams.stop(KEY, "enough");
        assert_eq!(outbound.wait(false, none), Leave::Stop("enough".to_owned()));
        assert!(matches!(streams.credit(KEY, u32::MAX), Err(WireError::TooMuchCredit(7))));
    }

    #[test]
    fn the_end_of_the_link_ends_every_body() {
        let streams = Streams::default();
        let (incoming, outbound) = (streams.receive(KEY).unwrap(), streams.send(KEY));
        streams.close("lost");
        assert!(incoming.take(&mut [0; 4], SECOND).is_err());
        assert_eq!(outbound.wait(false, SECOND), Leave::Stop("lost".to_owned()));
        let late = Key { ours: false, id: 8 };
        assert!(streams.receive(late).unwrap().take(&mut [0; 4], SECOND).is_err());
        assert_eq!(streams.send(late).wait(false, SECOND), Leave::Stop("lost".to_owned()));
    }
}
