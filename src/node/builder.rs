//! Assembles a node: a configuration, a handler for events, and listeners for its connections.

use std::sync::Arc;

use crate::event::peer::PeerIdentity;
use crate::handler::{Handler, Router};
use crate::lifecycle::{ConnectionEvent, EventListeners};
use crate::net::accept::Handed;

/// A node before its start, made by [`Server::builder`](crate::Server::builder) or
/// [`Client::builder`](crate::Client::builder).
///
/// The callbacks given to `on_start`, `on_stop` and `on_event` run on one thread of the node, in
/// the order of the events and one at a time, before the configured [`Hook`](crate::config::Hook),
/// if any. They may be slow: no pipe waits for them, and up to
/// [`MAX_QUEUED`](crate::lifecycle::MAX_QUEUED) calls are queued; further ones are dropped and
/// logged.
pub struct Builder<C> {
    pub(super) config: C,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) handler_name: Option<String>,
    pub(super) listeners: EventListeners,
    pub(super) sockets: Handed,
}

impl<C> Builder<C> {
    pub(super) fn new(config: C) -> Self {
        let handler = Arc::new(Router::new());
        Self {
            config,
            handler,
            handler_name: None,
            listeners: EventListeners::default(),
            sockets: Handed::default(),
        }
    }

    /// Sets the handler for the peers' events. Without one, peers get 404.
    pub fn handler(self, handler: impl Handler + 'static) -> Self {
        self.shared_handler(Arc::new(handler))
    }

    /// Like [`Builder::handler`], for a shared handler.
    pub fn shared_handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.handler = handler;
        self
    }

    /// Sets the handler's name as shown on the local port; by default none is shown.
    pub fn handler_name(mut self, name: impl Into<String>) -> Self {
        self.handler_name = Some(name.into());
        self
    }

    /// Listens on sockets handed over by a service manager instead of binding its own. They stay
    /// open, and connections waiting in their queues are left to the next process.
    pub fn sockets(mut self, sockets: Handed) -> Self {
        self.sockets = sockets;
        self
    }

    /// Calls `hook` when a connection is up: the peer is authenticated and has sent its first
    /// frame.
    pub fn on_start(mut self, hook: impl FnMut(&PeerIdentity) + Send + 'static) -> Self {
        self.listeners.on_start(hook);
        self
    }

    /// Calls `hook` when a connection that was up has ended, with the reason in one line.
    pub fn on_stop(mut self, hook: impl FnMut(&PeerIdentity, &str) + Send + 'static) -> Self {
        self.listeners.on_stop(hook);
        self
    }

    /// Calls `listener` for each [`ConnectionEvent`].
    pub fn on_event(mut self, listener: impl FnMut(&ConnectionEvent) + Send + 'static) -> Self {
        self.listeners.on_event(listener);
        self
    }
}
