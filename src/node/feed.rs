//! Streams connection events to listeners on the local port.
//!
//! In scope: the listeners, and the format of server-sent events (HTML standard, section 9.2).
//! Publishing never blocks: a listener that does not keep up is dropped, and may reconnect.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use crate::event::peer::PeerIdentity;
use crate::event::{Body, Source};
use crate::identity::Date;

/// Maximum concurrent listeners.
const MAX_LISTENERS: usize = 64;
/// Maximum queued events per listener.
const MAX_QUEUED_EVENTS: usize = 256;
/// After this long without an event an empty line is sent, to detect disconnected listeners.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The kinds of published events.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    /// A connection is up.
    Connect,
    /// A connection that was up has ended.
    Loss,
    /// A connection has replaced an older one.
    Takeover,
    /// A connection was refused or failed.
    Refusal,
    /// The identity or the rules were reloaded, or could not be.
    Reload,
}

impl Happening {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Loss => "loss",
            Self::Takeover => "takeover",
            Self::Refusal => "refusal",
            Self::Reload => "reload",
        }
    }
}

/// Publishes events to the listeners.
#[derive(Default)]
pub(super) struct Feed {
    /// Guards the listeners. Never held across I/O.
    listeners: Mutex<Listeners>,
    counts: [AtomicU64; 5],
    /// Why the last connection ended or failed.
    trouble: Mutex<Option<String>>,
}

#[derive(Default)]
struct Listeners {
    all: Vec<Sender<Arc<str>>>,
    closed: bool,
}

impl Feed {
    /// Publishes an event about a peer, with a short text.
    pub fn publish(&self, happening: Happening, peer: Option<&PeerIdentity>, why: &str) {
        self.note_trouble(happening, peer.map_or("", |peer| &peer.name), why);
        self.note(happening, || {
            json!({
                "time": now(),
                "name": peer.map(|peer| peer.name.as_str()),
                "address": peer.map(|peer| peer.address.to_string()),
                "fingerprint": peer.map(|peer| peer.fingerprint.as_str()),
                "reason": why,
            })
        });
    }

    /// Publishes an event about an unauthenticated connection.
    pub fn publish_unauthenticated(&self, happening: Happening, who: &str, why: &str) {
        self.note_trouble(happening, who, why);
        self.note(happening, || json!({ "time": now(), "address": who, "reason": why }));
    }

    /// Counts an event without publishing it, for events too frequent for the listeners to keep up
    /// with.
    pub fn count_only(&self, happening: Happening) {
        self.counts[happening as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Which connection last ended or failed, and why; `None` if another came up since.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// How often this kind of event has occurred.
    pub fn count(&self, happening: Happening) -> u64 {
        self.counts[happening as usize].load(Ordering::Relaxed)
    }

    /// The stream for a new listener; `None` if there are too many.
    pub fn listen(&self) -> Option<Body> {
        let mut listeners = self.listeners.lock();
        if listeners.closed || listeners.all.len() >= MAX_LISTENERS {
            return None;
        }
        let (sender, events) = bounded(MAX_QUEUED_EVENTS);
        listeners.all.push(sender);
        // Sent at once, so that the listener knows that it misses nothing from here on.
        let listening =
            Listening { events, rest: b": listening\n\n".to_vec(), sent: Instant::now() };
        Some(Body::from_source(listening, None))
    }

    /// Ends every stream.
    pub fn close(&self) {
        let mut listeners = self.listeners.lock();
        listeners.closed = true;
        listeners.all.clear();
    }

    fn note_trouble(&self, happening: Happening, who: &str, why: &str) {
        let trouble = match happening {
            Happening::Loss | Happening::Refusal => Some(format!("{who}: {why}")),
            Happening::Connect => None,
            Happening::Takeover | Happening::Reload => return,
        };
        *self.trouble.lock() = trouble;
    }

    fn note(&self, happening: Happening, data: impl FnOnce() -> Value) {
        self.count_only(happening);
        let mut listeners = self.listeners.lock();
        if listeners.all.is_empty() {
            return;
        }
        // JSON escapes everything that would break the line.
        let event: Arc<str> = format!("event: {}\ndata: {}\n\n", happening.as_str(), data()).into();
        // Full: the listener does not keep up. Disconnected: its connection has ended.
        listeners.all.retain(|listener| listener.try_send(Arc::clone(&event)).is_ok());
    }
}

/// The current time in machine-readable form.
fn now() -> String {
    Date::from(UnixTime::now()).rfc3339()
}

/// One listener.
struct Listening {
    events: Receiver<Arc<str>>,
    /// The unread rest of the previous event.
    rest: Vec<u8>,
    /// When something was last sent.
    sent: Instant,
}

impl Source for Listening {
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        if self.rest.is_empty() {
            match self.events.recv_timeout(timeout) {
                Ok(event) => self.rest = event.as_bytes().to_vec(),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(0)),
                Err(RecvTimeoutError::Timeout) if self.sent.elapsed() < KEEPALIVE_INTERVAL => {
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) => self.rest = b":\n\n".to_vec(),
            }
        }
        self.sent = Instant::now();
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(Some(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &mut Body) -> String {
        let mut buffer = [0; 4096];
        let count = body.read_within(&mut buffer, Duration::from_secs(5)).unwrap().unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn events_come_one_after_another_and_end() {
        let feed = Feed::default();
        feed.publish_unauthenticated(Happening::Refusal, "before", "nobody listens");
        let mut body = feed.listen().unwrap();
        assert_eq!(read(&mut body), ": listening\n\n");
        feed.publish_unauthenticated(Happening::Refusal, "a\nevent: x", "b\r\n\u{2028}");
        let event = read(&mut body);
        let lines: Vec<&str> = event.lines().collect();
        assert_eq!(lines.len(), 3, "{event:?}");
        assert_eq!(lines[0], "event: refusal");
        let data: Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(
            (&data["address"], &data["reason"]),
            (&json!("a\nevent: x"), &json!("b\r\n\u{2028}"))
        );
        assert_eq!(feed.count(Happening::Refusal), 2);
        feed.close();
        assert_eq!(read(&mut body), "");
        assert!(feed.listen().is_none());
        feed.publish(Happening::Reload, None, "no trouble");
        assert_eq!(feed.trouble().unwrap(), "a\nevent: x: b\r\n\u{2028}");
        feed.publish(Happening::Connect, None, "it is over");
        assert_eq!(feed.trouble(), None);
    }

    #[test]
    fn who_does_not_keep_up_is_let_go_and_there_is_a_bound() {
        let feed = Feed::default();
        let _slow = feed.listen().unwrap();
        for _ in 0..=MAX_QUEUED_EVENTS {
            feed.publish_unauthenticated(Happening::Reload, "", "");
        }
        assert!(feed.listeners.lock().all.is_empty());
        let bodies: Vec<Body> = std::iter::from_fn(|| feed.listen()).take(1000).collect();
        assert_eq!(bodies.len(), MAX_LISTENERS);
        drop(bodies);
        feed.publish_unauthenticated(Happening::Reload, "", "");
        assert!(feed.listen().is_some(), "those that have gone make room");
    }
}
