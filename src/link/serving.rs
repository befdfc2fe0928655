//! The peer's events being handled on a link, and their replies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::closing::Closing;
use super::end::LinkEnd;
use super::outgoing_body::OutgoingBody;
use super::output::SendError;
use super::peer_queue::PeerQueue;
use super::streams::StreamKey;
use super::transport::{Transport, max_inline};
use crate::event::{Body, CODE_EXCEPTION, Event, Reply, Verb};
use crate::metrics::meter::Outcomes;
use crate::wire::{Capabilities, Payload, WireError, encode_reply};

/// Maximum events of one peer in progress.
const MAX_HANDLING: usize = 2048;

/// Events in progress, and the outcomes of finished ones.
pub(super) struct ServedEvents {
    /// Never held across I/O.
    table: Mutex<EventTable>,
    /// Events that wait for a handler.
    pub queue: PeerQueue<ServedEvent>,
    pub transport: Arc<Transport>,
    closing: Arc<Closing>,
    /// The peer's requests by outcome.
    pub outcomes: Outcomes,
}

/// One event to handle.
pub(super) struct ServedEvent {
    pub id: u32,
    pub event: Event,
    /// Its reply is no longer wanted.
    pub cancelled: Arc<AtomicBool>,
}

#[derive(Default)]
struct EventTable {
    events: HashMap<u32, TableEntry>,
    bytes: usize,
    /// The link is closed: later events are not handled.
    closed: bool,
}

struct TableEntry {
    bytes: usize,
    cancelled: Arc<AtomicBool>,
}

impl ServedEvents {
    /// An empty table.
    pub fn new(transport: Arc<Transport>, closing: Arc<Closing>) -> Self {
        Self {
            table: Mutex::default(),
            queue: PeerQueue::default(),
            transport,
            closing,
            outcomes: Outcomes::default(),
        }
    }

    /// Registers an event, with the size of its body; returns it if too many are in progress.
    pub fn begin(&self, id: u32, event: Event) -> Result<Result<ServedEvent, Event>, WireError> {
        let bytes = event.body.whole().map_or(0, <[u8]>::len);
        let mut table = self.table.lock();
        if table.events.contains_key(&id) {
            return Err(WireError::DuplicateId(id));
        }
        let total = table.bytes + bytes;
        let most = 4 * self.transport.limits.max_data;
        if table.closed || table.events.len() >= MAX_HANDLING || (total > most && table.bytes > 0) {
            return Ok(Err(event));
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        table.events.insert(id, TableEntry { bytes, cancelled: Arc::clone(&cancelled) });
        table.bytes = total;
        Ok(Ok(ServedEvent { id, event, cancelled }))
    }

    /// Marks the reply to this event as no longer wanted.
    pub fn cancel(&self, id: u32) {
        if let Some(event) = self.table.lock().events.get(&id) {
            event.cancelled.store(true, Ordering::Release);
        }
    }

    /// The link is closed: no reply is wanted, and waiting events are dropped.
    pub fn close(&self) {
        {
            let mut table = self.table.lock();
            table.closed = true;
            table.events.values().for_each(|event| event.cancelled.store(true, Ordering::Release));
        }
        self.queue.close();
    }

    /// Number of events in progress.
    pub fn len(&self) -> usize {
        self.table.lock().events.len()
    }

    /// Answers a registered event, on a handler's thread. This thread also sends a reply's stream,
    /// at the peer's pace.
    pub fn answer(&self, id: u32, verb: Verb, cancelled: &AtomicBool, mut reply: Reply) {
        if cancelled.load(Ordering::Acquire) {
            self.finish(id);
            return;
        }
        let capabilities = self.transport.capabilities();
        let inline = max_inline(capabilities);
        let small = reply.body.length().is_some_and(|length| length <= inline as u64);
        let in_pieces = capabilities.streams && (!small || reply.body.is_left_out());
        if !in_pieces && let Err(error) = reply.body.gather(capabilities.max_data) {
            reply = Reply::exception("Body", &error.to_string(), "");
        }
        if capabilities.streams && reply.body.whole().is_none_or(|bytes| bytes.len() > inline) {
            self.send_in_pieces(id, verb, reply, capabilities);
            self.finish(id);
        } else {
            let was_only_one = self.finish(id);
            self.send_whole(id, &reply, was_only_one, capabilities);
        }
    }

    /// Replies to an event that was not registered; the body is in memory.
    pub fn refuse(&self, id: u32, reply: &Reply) {
        self.send_whole(id, reply, false, self.transport.capabilities());
    }

    /// Removes a finished event. Returns whether it was the only one.
    fn finish(&self, id: u32) -> bool {
        let mut table = self.table.lock();
        table.bytes -= table.events.remove(&id).map_or(0, |event| event.bytes);
        table.events.is_empty()
    }

    /// Sends a reply whose body follows in pieces.
    fn send_in_pieces(&self, id: u32, verb: Verb, mut reply: Reply, capabilities: Capabilities) {
        let Transport { output, streams, peer, .. } = &*self.transport;
        // Registered before the reply is sent: the peer may grant credit as soon as it arrives.
        let stream = streams.send(StreamKey::theirs(id));
        let payload = Payload::Streamed(reply.body.length());
        let sent = match encode_reply(id, &reply, payload, capabilities) {
            Ok(bytes) => output.send(bytes, false),
            // Only bodies are ever refused, and this reply has none.
            Err(_) => Err(SendError::Closed),
        };
        match sent {
            Ok(()) => {
                let body = reply.body.take_out();
                let stall = self.transport.stall(verb);
                let end = OutgoingBody::new(&self.transport, stream, body, stall).send(|_| ());
                log::debug!("{}: the reply's body ended: {end:?}", peer.name);
            }
            Err(error) => {
                streams.sent(stream.key);
                if error == SendError::Full {
                    let busy = Reply::busy("too many replies wait");
                    self.send_whole(id, &busy, false, capabilities);
                }
            }
        }
    }

    /// Sends a reply whose body is in memory.
    fn send_whole(&self, id: u32, reply: &Reply, at_once: bool, capabilities: Capabilities) {
        let Transport { output, peer, .. } = &*self.transport;
        let encode = |reply: &Reply| {
            let payload = Payload::Whole(reply.body.whole().unwrap_or_default());
            encode_reply(id, reply, payload, capabilities)
        };
        let bytes = encode(reply).or_else(|refused| {
            log::warn!("{}: a reply cannot be sent: {refused}", peer.name);
            encode(&Reply::exception("NotCarried", &refused.to_string(), ""))
                // A peer with a very small limit gets at least the code.
                .or_else(|_| encode(&Reply::new("", Body::empty()).with_code(CODE_EXCEPTION)))
        });
        let Ok(bytes) = bytes else { return };
        if output.send(bytes, at_once) == Err(SendError::Full) {
            let busy = Reply::busy("too many replies wait for this peer to take them");
            let Ok(bytes) = encode(&busy) else { return };
            if output.send(bytes, false) == Err(SendError::Full) {
                self.closing.begin(LinkEnd::NotTaking("too many replies wait".to_owned()));
            }
        }
    }
}
