//! State shared by all connections of a port.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::event::inspect::Inspect;
use crate::event::pipe::Pipe;
use crate::event::{Event, Reply, header};
use crate::http::HttpSettings;
use crate::http::budget::Budget;
use crate::http::guard::Guard;
use crate::http::response::HttpResponse;
use crate::http::route::Destination;
use crate::http::slots::ConnectionSlots;
use crate::http::steering::Steering;
use crate::sync::line_budget::LineBudget;
use crate::sync::throttle::Throttle;

/// One instance per port.
pub(super) struct Shared {
    pub settings: HttpSettings,
    pub pipe: Arc<dyn Pipe>,
    /// The node, if its status is served.
    pub inspect: Option<Arc<dyn Inspect>>,
    pub guard: Guard,
    pub steering: Steering,
    pub budget: Budget,
    pub slots: Arc<ConnectionSlots>,
    /// Limits log lines about refused requests and connections.
    pub callers_log: Arc<LineBudget>,
    /// Limits log lines about requests whose outcome is unknown.
    pub unknown: Throttle,
    /// The number of requests that panicked.
    pub panics: AtomicU64,
}

impl Shared {
    /// The response that carries a peer's reply.
    pub fn respond(
        &self,
        mut reply: Reply,
        event: &Event,
        destination: &Destination,
    ) -> HttpResponse {
        let peer = destination.name();
        // A peer of this version has checked it.
        if !header::is_clean(&reply.media_type) {
            let why = format!("the media type of its reply cannot be sent: {:?}", reply.media_type);
            self.callers_log.warn("media type", &peer.escape_debug().to_string(), &why);
            reply.media_type.clear();
        }
        HttpResponse::of_reply(reply, event, self.trusts(peer), |name| {
            self.steering.stops(name, peer)
        })
    }

    /// Whether this peer's pages have the rights of this port's own.
    fn trusts(&self, peer: &str) -> bool {
        let is = |name: &String| name == "*" || name.eq_ignore_ascii_case(peer);
        self.settings.trusted_pages.iter().any(is)
    }
}
