//! Being asked: the events of the peer that are being handled, and their replies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ask::INLINE;
use super::body;
use super::output::{Outgoing, SendError};
use super::streams::Key;
use super::{Link, LinkEnd, lock};
use crate::event::{Body, CODE_EXCEPTION, Reply, Verb};
use crate::wire::{Payload, WireError, encode_reply};

/// Most events of one peer that are being handled.
const MAX_HANDLING: usize = 2048;

/// The peer's events that are being handled.
#[derive(Default)]
pub(super) struct Handling {
    events: HashMap<u32, Handled>,
    bytes: usize,
    /// The link has ended: what is still read is not handled.
    closed: bool,
}

struct Handled {
    bytes: usize,
    cancelled: Arc<AtomicBool>,
}

impl Handling {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Nobody waits for any of the replies any more.
    pub fn cancel_all(&mut self) {
        self.closed = true;
        self.events.values().for_each(|event| event.cancelled.store(true, Ordering::Release));
    }
}

impl Link {
    /// Notes an event that is to be handled, and returns what says that its reply is not wanted any
    /// more; `None` when too many are being handled.
    pub(super) fn begin(
        &self,
        id: u32,
        bytes: usize,
    ) -> Result<Option<Arc<AtomicBool>>, WireError> {
        let mut handling = lock(&self.handling);
        if handling.events.contains_key(&id) {
            return Err(WireError::DuplicateId(id));
        }
        let total = handling.bytes + bytes;
        let most = 4 * self.limits.max_data;
        if handling.closed {
            return Ok(None);
        }
        if handling.events.len() >= MAX_HANDLING || (total > most && handling.bytes > 0) {
            return Ok(None);
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        handling.events.insert(id, Handled { bytes, cancelled: Arc::clone(&cancelled) });
        handling.bytes = total;
        Ok(Some(cancelled))
    }

    /// The peer does not wait for this reply any more.
    pub(super) fn cancel(&self, id: u32) {
        if let Some(event) = lock(&self.handling).events.get(&id) {
            event.cancelled.store(true, Ordering::Release);
        }
    }

    /// Answers an event that was noted with [`Link::begin`], on a handler's thread: a reply's stream
    /// is sent here, as far as the peer takes it.
    pub(super) fn answer(&self, id: u32, verb: Verb, mut reply: Reply) {
        let cancelled = {
            let handling = lock(&self.handling);
            handling.events.get(&id).is_some_and(|event| event.cancelled.load(Ordering::Acquire))
        };
        if cancelled {
            self.handled(id);
            return;
        }
        let capabilities = self.capabilities();
        let inline = INLINE.min(capabilities.max_data);
        let small = reply.body.length().is_some_and(|length| length <= inline as u64);
        let in_pieces = capabilities.streams && (!small || reply.body.is_left_out());
        if !in_pieces && let Err(error) = reply.body.gather(capabilities.max_data) {
            reply = Reply::exception("Body", &error.to_string(), "");
        }
        if capabilities.streams && reply.body.whole().is_none_or(|bytes| bytes.len() > inline) {
            self.answer_in_pieces(id, &mut reply, self.stall(verb));
            self.handled(id);
        } else {
            let alone = self.handled(id);
            self.send_reply(id, &reply, alone);
        }
    }

    /// Sends a reply whose body follows it.
    fn answer_in_pieces(&self, id: u32, reply: &mut Reply, stall: Option<Duration>) {
        // Before the reply is out: the peer may grant credit as soon as it has it.
        let outbound = self.streams.send(Key { ours: false, id });
        let payload = Payload::Streamed(reply.body.length());
        let sent = match encode_reply(id, reply, payload, self.capabilities()) {
            Ok(bytes) => self.output.send(Outgoing::plain(bytes), false, &self.tls, self),
            // Only a body is ever refused, and this has none.
            Err(_) => Err(SendError::Closed),
        };
        match sent {
            Ok(()) => {
                let end = body::pump(self, &outbound, &mut reply.body, stall);
                log::debug!("{}: the reply's body ended: {end:?}", self.peer.name);
            }
            Err(error) => {
                self.streams.sent(outbound.key);
                if error == SendError::Full {
                    self.send_reply(id, &Reply::busy("too many replies wait"), false);
                }
            }
        }
    }

    /// An event has its reply. Returns whether it was the only one.
    fn handled(&self, id: u32) -> bool {
        let mut handling = lock(&self.handling);
        handling.bytes -= handling.events.remove(&id).map_or(0, |event| event.bytes);
        handling.events.is_empty()
    }

    /// Sends a reply whose body is in memory.
    pub(super) fn send_reply(&self, id: u32, reply: &Reply, at_once: bool) {
        let capabilities = self.capabilities();
        let encode = |reply: &Reply| {
            encode_reply(
                id,
                reply,
                Payload::Whole(reply.body.whole().unwrap_or_default()),
                capabilities,
            )
        };
        let bytes = encode(reply).or_else(|refused| {
            log::warn!("{}: a reply cannot be sent: {refused}", self.peer.name);
            encode(&Reply::exception("NotCarried", &refused.to_string(), ""))
                // A peer that takes next to nothing gets the code at least.
                .or_else(|_| encode(&Reply::new("", Body::empty()).with_code(CODE_EXCEPTION)))
        });
        let Ok(bytes) = bytes else { return };
        let message = Outgoing::plain(bytes);
        if self.output.send(message, at_once, &self.tls, self) == Err(SendError::Full) {
            let busy = Reply::busy("too many replies wait for this peer to take them");
            let Ok(bytes) = encode(&busy) else { return };
            let message = Outgoing::plain(bytes);
            if self.output.send(message, false, &self.tls, self) == Err(SendError::Full) {
                self.close(LinkEnd::NotTaking("too many replies wait".to_owned()));
            }
        }
    }
}
