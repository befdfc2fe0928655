//! The peer's events being handled on a link, and their replies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::closing::Closing;
use super::end::LinkEnd;
use super::held::HeldEvent;
use super::outgoing_body::OutgoingBody;
use super::output::SendError;
use super::peer_account::PeerAccount;
use super::streams::StreamKey;
use super::transport::{Transport, max_inline};
use crate::event::{Body, CODE_EXCEPTION, Event, MAX_MEDIA_TYPE, Reply, Verb};
use crate::metrics::meter::Outcomes;
use crate::wire::{Capabilities, FIRST_CREDIT, Payload, WireError, encode_reply};

/// What an event takes besides its contents, in bytes.
const EVENT_BYTES: usize = 1024;

/// What is said of a reply for which there is no room: its event was handled.
const REPLY_LOST: &str =
    "it was handled, but its reply is lost: too many replies wait for this peer to take them";

/// Events in progress, and the outcomes of finished ones.
pub(super) struct ServedEvents {
    /// Never held across I/O.
    table: Mutex<EventTable>,
    /// Shared by all links of this peer.
    pub account: Arc<PeerAccount<Job>>,
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
    /// The memory that it takes.
    pub held: HeldEvent,
}

/// One event, and where its answer goes.
pub(super) struct Job {
    pub served: ServedEvent,
    pub events: Arc<ServedEvents>,
}

impl Job {
    /// An event of this link.
    pub fn new(served: ServedEvent, events: &Arc<ServedEvents>) -> Self {
        Self { served, events: Arc::clone(events) }
    }
}

#[derive(Default)]
struct EventTable {
    /// The events in progress, and whether their replies are no longer wanted.
    events: HashMap<u32, Arc<AtomicBool>>,
    /// The link is closed: later events are not handled.
    closed: bool,
}

impl ServedEvents {
    /// An empty table.
    pub fn new(
        account: Arc<PeerAccount<Job>>,
        transport: Arc<Transport>,
        closing: Arc<Closing>,
    ) -> Self {
        Self { table: Mutex::default(), account, transport, closing, outcomes: Outcomes::default() }
    }

    /// Registers an event; `is_streamed` tells whether its body follows in pieces. Returns it if
    /// its peer has too many in progress, or makes this side hold too much.
    pub fn begin(
        &self,
        id: u32,
        event: Event,
        is_streamed: bool,
    ) -> Result<Result<ServedEvent, Event>, WireError> {
        let mut table = self.table.lock();
        if table.events.contains_key(&id) {
            return Err(WireError::DuplicateId(id));
        }
        let unread = if is_streamed { FIRST_CREDIT as usize } else { 0 };
        let bytes = EVENT_BYTES + event.memory() + unread;
        let held = if table.closed { None } else { self.account.held.hold_event(bytes) };
        let Some(held) = held else { return Ok(Err(event)) };
        let cancelled = Arc::new(AtomicBool::new(false));
        table.events.insert(id, Arc::clone(&cancelled));
        Ok(Ok(ServedEvent { id, event, cancelled, held }))
    }

    /// Marks the reply to this event as no longer wanted.
    pub fn cancel(&self, id: u32) {
        if let Some(cancelled) = self.table.lock().events.get(&id) {
            cancelled.store(true, Ordering::Release);
        }
    }

    /// The link is closed: no reply is wanted, and waiting events are dropped.
    pub fn close(&self) {
        {
            let mut table = self.table.lock();
            table.closed = true;
            table.events.values().for_each(|cancelled| cancelled.store(true, Ordering::Release));
        }
        self.account.queue.discard(|job| std::ptr::eq(&*job.events, self));
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
        if reply.media_type.len() > MAX_MEDIA_TYPE {
            let why = format!("the reply's media type is longer than {MAX_MEDIA_TYPE} bytes");
            log::warn!("{}: a reply cannot be sent: {why}", self.transport.peer.name);
            reply = Reply::exception("NotCarried", &why, "");
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
        table.events.remove(&id);
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
                    let lost = Reply::lost(REPLY_LOST);
                    self.send_whole(id, &lost, false, capabilities);
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
            let Ok(bytes) = encode(&Reply::lost(REPLY_LOST)) else { return };
            if output.send(bytes, false) == Err(SendError::Full) {
                self.closing.begin(LinkEnd::NotTaking("too many replies wait".to_owned()));
            }
        }
    }
}
