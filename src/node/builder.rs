//! Putting a node together: a configuration, what answers events, and the listeners to its
//! connections.

use std::sync::Arc;

use crate::event::peer::PeerIdentity;
use crate::handler::{Handler, Router};
use crate::lifecycle::{ConnectionEvent, EventListeners};
use crate::net::accept::Handed;

/// A node that is about to be started: made by [`Server::builder`](crate::Server::builder) or
/// [`Client::builder`](crate::Client::builder).
///
/// What is given to `on_start`, `on_stop` and `on_event` is called on one thread of the node, in the
/// order in which things happened and never two at a time, before the [`Hook`](crate::config::Hook)
/// of the configuration is run, if there is one. It may take its time: no pipe waits for it,
/// and up to [`MAX_QUEUED`](crate::lifecycle::MAX_QUEUED) calls wait in a queue; what comes beyond that is
/// left out, and the log says so.
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

    /// What answers the peers' events. Without one, nothing is handled: peers get 404.
    pub fn handler(self, handler: impl Handler + 'static) -> Self {
        self.shared_handler(Arc::new(handler))
    }

    /// As [`Builder::handler`], for one that somebody else has too.
    pub fn shared_handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.handler = handler;
        self
    }

    /// What the local port calls the handler; without one it says nothing of it.
    pub fn handler_name(mut self, name: impl Into<String>) -> Self {
        self.handler_name = Some(name.into());
        self
    }

    /// Listens on sockets that a service manager has handed over instead of binding its own. They are
    /// left open, and what waits in their queues is left to the next process.
    pub fn sockets(mut self, sockets: Handed) -> Self {
        self.sockets = sockets;
        self
    }

    /// Calls `hook` when a connection stands: the peer has proved who it is, and has spoken.
    pub fn on_start(mut self, hook: impl FnMut(&PeerIdentity) + Send + 'static) -> Self {
        self.listeners.on_start(hook);
        self
    }

    /// Calls `hook` when a connection that stood has ended, with the reason in a line.
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
