//! Event listeners.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::connection_event::ConnectionEvent;
use crate::event::peer::PeerIdentity;

/// What listeners are called for.
pub(super) enum Notification {
    Started(Arc<PeerIdentity>),
    Stopped(Arc<PeerIdentity>, String),
    Event(ConnectionEvent),
}

type OnStart = Box<dyn FnMut(&PeerIdentity) + Send>;
type OnStop = Box<dyn FnMut(&PeerIdentity, &str) + Send>;
type OnEvent = Box<dyn FnMut(&ConnectionEvent) + Send>;

/// Callbacks for events. All run on one thread, one at a time. A panic in a callback is logged and
/// has no other effect.
#[derive(Default)]
pub struct EventListeners {
    on_start: Vec<OnStart>,
    on_stop: Vec<OnStop>,
    on_event: Vec<OnEvent>,
    pub(super) ending: Arc<Ending>,
}

impl EventListeners {
    /// Called when a connection is up: the peer is authenticated and has sent its first frame.
    pub fn on_start(&mut self, hook: impl FnMut(&PeerIdentity) + Send + 'static) {
        self.on_start.push(Box::new(hook));
    }

    /// Called when a connection that was up has ended, with the reason in one line.
    pub fn on_stop(&mut self, hook: impl FnMut(&PeerIdentity, &str) + Send + 'static) {
        self.on_stop.push(Box::new(hook));
    }

    /// Called for each event.
    pub fn on_event(&mut self, listener: impl FnMut(&ConnectionEvent) + Send + 'static) {
        self.on_event.push(Box::new(listener));
    }

    /// The deadline for slow listeners.
    pub fn ending(&self) -> Arc<Ending> {
        Arc::clone(&self.ending)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.on_start.is_empty() && self.on_stop.is_empty() && self.on_event.is_empty()
    }

    pub(super) fn call(&mut self, notification: &Notification) {
        match notification {
            Notification::Started(peer) => {
                self.on_start.iter_mut().for_each(|hook| guard(|| hook(peer)))
            }
            Notification::Stopped(peer, why) => {
                self.on_stop.iter_mut().for_each(|hook| guard(|| hook(peer, why)));
            }
            Notification::Event(event) => {
                self.on_event.iter_mut().for_each(|listener| guard(|| listener(event)));
            }
        }
    }
}

fn guard(listen: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(listen)).is_err() {
        log::error!("connection events: a listener panicked, see above");
    }
}

/// When event delivery ends.
#[derive(Default)]
pub struct Ending {
    /// Guards the deadline; nothing else happens under this lock.
    deadline: Mutex<Option<Instant>>,
}

impl Ending {
    /// When listeners must be done; absent unless the node is stopping.
    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock()
    }

    pub(super) fn set(&self, deadline: Instant) {
        *self.deadline.lock() = Some(deadline);
    }
}
