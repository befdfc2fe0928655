//! The bodies that cross a link in pieces: who sends, who receives, and the credit between them.
//!
//! A body has two ends. The reader thread fills an [`IncomingStream`] without ever waiting; the
//! consumer empties it, and so grants more credit. The producer spends an [`OutgoingStream`], and
//! waits there for credit and for room in the outgoing queue. A stalled consumer stalls its own
//! producer and nobody else.

mod incoming;
mod key;
mod outgoing;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

pub(super) use incoming::{IncomingStream, Pushed};
pub(super) use key::StreamKey;
pub(super) use outgoing::{Chunk, MAX_QUEUED_CHUNKS, OutgoingStream, SendPermission};

use super::held::HeldMemory;
use crate::wire::{Window, WireError};

/// Maximum bodies in pieces on one link, per direction.
const MAX_STREAMS: usize = 4096;

/// All bodies in pieces on a link.
pub(super) struct Streams {
    /// Guards the set of bodies. Never held across I/O.
    table: Mutex<Table>,
    /// What the peer makes this side hold: windows beyond each body's initial credit count too.
    held: Arc<HeldMemory>,
}

#[derive(Default)]
struct Table {
    incoming: HashMap<StreamKey, Arc<IncomingStream>>,
    outgoing: HashMap<StreamKey, Arc<OutgoingStream>>,
    /// Bodies that the peer was asked to stop but has not ended yet: further bytes are dropped.
    stopped: HashMap<StreamKey, Window>,
    closed: Option<String>,
}

impl Streams {
    /// No bodies yet.
    pub fn new(held: Arc<HeldMemory>) -> Self {
        Self { table: Mutex::default(), held }
    }

    /// Begins a body sent by the peer.
    pub fn receive(&self, key: StreamKey) -> Result<Arc<IncomingStream>, WireError> {
        let mut table = self.table.lock();
        let taken = table.incoming.contains_key(&key) || table.stopped.contains_key(&key);
        if taken || table.incoming.len() + table.stopped.len() >= MAX_STREAMS {
            return Err(WireError::DuplicateId(key.id));
        }
        let incoming =
            Arc::new(IncomingStream::new(key, Arc::clone(&self.held), table.closed.clone()));
        table.incoming.insert(key, Arc::clone(&incoming));
        Ok(incoming)
    }

    /// Begins a body sent by this side.
    pub fn send(&self, key: StreamKey) -> Arc<OutgoingStream> {
        let mut table = self.table.lock();
        let outgoing = Arc::new(OutgoingStream::new(key, table.closed.clone()));
        table.outgoing.insert(key, Arc::clone(&outgoing));
        outgoing
    }

    /// Removes a body sent by this side that has ended, successfully or not.
    pub fn sent(&self, key: StreamKey) {
        self.table.lock().outgoing.remove(&key);
    }

    /// Whether this side is still sending the body.
    pub fn is_sending(&self, key: StreamKey) -> bool {
        self.table.lock().outgoing.contains_key(&key)
    }

    /// Handles a chunk. Returns its body and what became of the bytes.
    pub fn chunk(
        &self,
        key: StreamKey,
        bytes: &[u8],
    ) -> Result<Option<(Arc<IncomingStream>, Pushed)>, WireError> {
        let mut table = self.table.lock();
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

    /// Handles the end of a body. If its total is wrong, calls `before` before the consumer sees
    /// the end.
    pub fn end(&self, key: StreamKey, total: u64, before: impl FnOnce()) -> Result<(), WireError> {
        match self.finish(key)? {
            Some(incoming) => incoming.end(total, before),
            None => Ok(()),
        }
    }

    /// Handles a reset of a body. If it is still wanted, calls `before` before the consumer learns
    /// of it.
    pub fn reset(
        &self,
        key: StreamKey,
        reason: &str,
        before: impl FnOnce(),
    ) -> Result<(), WireError> {
        if let Some(incoming) = self.finish(key)? {
            before();
            incoming.fail(&format!("the other side gave it up: {}", reason.escape_debug()));
        }
        Ok(())
    }

    /// Removes a body that has ended; `None` if it is no longer wanted.
    fn finish(&self, key: StreamKey) -> Result<Option<Arc<IncomingStream>>, WireError> {
        let mut table = self.table.lock();
        match (table.incoming.remove(&key), table.stopped.remove(&key)) {
            (Some(incoming), _) => Ok(Some(incoming)),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(WireError::NoSuchStream(key.id)),
        }
    }

    /// Handles a grant of credit. The body may have ended while the grant was in transit.
    pub fn credit(&self, key: StreamKey, count: u32) -> Result<(), WireError> {
        let outgoing = self.table.lock().outgoing.get(&key).cloned();
        outgoing.map_or(Ok(()), |outgoing| outgoing.grant(count))
    }

    /// Handles a stop from the peer. False if there is no such body.
    pub fn stop(&self, key: StreamKey, reason: &str) -> bool {
        let outgoing = self.table.lock().outgoing.get(&key).cloned();
        outgoing.map(|outgoing| outgoing.stop(reason)).is_some()
    }

    /// Stops accepting this body. False if it has ended, so that the peer need not be told.
    pub fn abandon(&self, incoming: &IncomingStream) -> bool {
        let mut table = self.table.lock();
        if table.incoming.remove(&incoming.key).is_none() {
            return false;
        }
        table.stopped.insert(incoming.key, incoming.window());
        true
    }

    /// Ends every body when the link is closed.
    pub fn close(&self, reason: &str) {
        let (incoming, outgoing) = {
            let mut table = self.table.lock();
            table.closed = Some(reason.to_owned());
            table.stopped.clear();
            (std::mem::take(&mut table.incoming), std::mem::take(&mut table.outgoing))
        };
        incoming.values().for_each(|incoming| incoming.fail(reason));
        outgoing.values().for_each(|outgoing| outgoing.stop(reason));
    }

    /// Number of bodies in both directions.
    pub fn len(&self) -> usize {
        let table = self.table.lock();
        table.incoming.len() + table.outgoing.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let table = self.table.lock();
        table.incoming.is_empty() && table.outgoing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::{CHUNK, HEADER_BYTES};

    const KEY: StreamKey = StreamKey::ours(7);
    /// The window of a body whose consumer has started reading.
    const WINDOW: u32 = 256 * 1024;
    const SECOND: Duration = Duration::from_secs(1);

    fn streams() -> Streams {
        Streams::new(Arc::new(HeldMemory::new(0)))
    }

    /// Bytes that a producer may send, and the result of its wait.
    fn reserve(
        stream: &OutgoingStream,
        chunk: &mut Chunk,
        after_grant: bool,
    ) -> (SendPermission, usize) {
        let permission = stream.reserve(chunk, after_grant, Duration::ZERO);
        (permission, chunk.frame.len().saturating_sub(HEADER_BYTES))
    }

    #[test]
    fn bytes_come_out_as_they_went_in_and_grant_more() {
        let streams = streams();
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
        let streams = streams();
        let other = StreamKey::theirs(7);
        let (incoming, outgoing) = (streams.receive(KEY).unwrap(), streams.send(other));
        let mut chunk = Chunk::default();
        assert_eq!(reserve(&outgoing, &mut chunk, true).0, SendPermission::Wait);
        let count = incoming.welcome().unwrap();
        assert_eq!(count, WINDOW - 65_536);
        streams.credit(other, count).unwrap();
        for sent in (0..WINDOW as usize).step_by(CHUNK) {
            let most = CHUNK.min(WINDOW as usize - sent);
            assert_eq!(reserve(&outgoing, &mut chunk, true), (SendPermission::Send, most));
            chunk.fill(most);
            outgoing.written(None);
        }
        assert_eq!(reserve(&outgoing, &mut chunk, true).0, SendPermission::Wait);
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
                self.0.lock().extend_from_slice(&bytes[..count]);
                count
            }
        }
        let streams = streams();
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
            // Bytes are passed on only while the consumer waits; until then they are queued.
            if incoming.is_waited_for() {
                break streams.chunk(KEY, b"abcdef").unwrap().unwrap();
            }
            std::thread::yield_now();
        };
        assert!(pushed.is_left);
        incoming.wake_consumer();
        assert_eq!(waiting.join().unwrap(), b"def");
        assert_eq!(*sink.0.lock(), b"abc");
    }

    #[test]
    fn an_end_is_certain_or_an_error() {
        let streams = streams();
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
        let streams = streams();
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
        let streams = streams();
        let outgoing = streams.send(KEY);
        let mut chunk = Chunk::default();
        assert_eq!(reserve(&outgoing, &mut chunk, true).0, SendPermission::Wait, "nobody reads");
        for _ in 0..MAX_QUEUED_CHUNKS {
            assert_eq!(reserve(&outgoing, &mut chunk, false), (SendPermission::Send, CHUNK));
            assert_eq!(chunk.fill(CHUNK).len(), HEADER_BYTES + CHUNK);
        }
        streams.credit(KEY, 10).unwrap();
        assert_eq!(reserve(&outgoing, &mut chunk, false).0, SendPermission::Wait, "no room");
        outgoing.written(None);
        let left = 65_536 - MAX_QUEUED_CHUNKS * CHUNK + 10;
        assert_eq!(reserve(&outgoing, &mut chunk, true), (SendPermission::Send, left));
        streams.stop(KEY, "enough");
        let stopped = SendPermission::Stop("enough".to_owned());
        assert_eq!(reserve(&outgoing, &mut chunk, false).0, stopped);
        assert!(matches!(streams.credit(KEY, u32::MAX), Err(WireError::TooMuchCredit(7))));
    }

    #[test]
    fn what_a_chunk_does_not_use_may_be_sent_later() {
        let streams = streams();
        let outgoing = streams.send(KEY);
        let mut chunk = Chunk::default();
        let mut sent = 0;
        // A source that yields one byte at a time, with pauses.
        while sent < 65_536 {
            let (permission, most) = reserve(&outgoing, &mut chunk, false);
            assert_eq!((permission, most), (SendPermission::Send, CHUNK.min(65_536 - sent)));
            if sent % 3 > 0 {
                reserve(&outgoing, &mut chunk, false);
            }
            assert_eq!(chunk.fill(1).len(), HEADER_BYTES + 1);
            outgoing.written(None);
            sent += 1;
        }
        assert_eq!(reserve(&outgoing, &mut chunk, false).0, SendPermission::Wait);
    }

    #[test]
    fn the_end_of_the_link_ends_every_body() {
        let streams = streams();
        let (incoming, outgoing) = (streams.receive(KEY).unwrap(), streams.send(KEY));
        streams.close("lost");
        let lost = SendPermission::Stop("lost".to_owned());
        let mut chunk = Chunk::default();
        assert!(incoming.take(&mut [0; 4], SECOND).is_err());
        assert_eq!(reserve(&outgoing, &mut chunk, false).0, lost);
        let late = StreamKey::theirs(8);
        assert!(streams.receive(late).unwrap().take(&mut [0; 4], SECOND).is_err());
        assert_eq!(reserve(&streams.send(late), &mut chunk, false).0, lost);
    }
}
