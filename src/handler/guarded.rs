//! A handler that receives only the requests that the rules allow.

use std::sync::Arc;

use super::{Context, Failure, Handler};
use crate::event::{Event, Reply};
use crate::rules::{Question, Rulebook};
use crate::sync::throttle::Throttles;

/// Wraps another handler: requests that the rules do not allow get
/// [`CODE_REFUSED`](crate::event::CODE_REFUSED) and do not reach it.
pub struct Guarded {
    inner: Arc<dyn Handler>,
    book: Arc<Rulebook>,
    /// Limits log lines about refused requests, per peer.
    refusals: Throttles,
}

impl Guarded {
    /// Protects `inner` with the rules that `book` holds at the time of each request.
    pub fn new(inner: Arc<dyn Handler>, book: Arc<Rulebook>) -> Self {
        Self { inner, book, refusals: Throttles::default() }
    }

    fn refuse(&self, context: &Context, event: &Event) -> Reply {
        let peer = &context.peer.name;
        if let Some(more) = self.refusals.allow(peer) {
            log::warn!(
                "{peer}: refused request {}: no rule of {} allows it: {} {}{more}",
                context.request_id,
                self.book.path().display(),
                event.verb.as_str(),
                event.target.noun().escape_debug()
            );
        }
        let role = context.role.as_str();
        Reply::refused(&format!("the {role}'s rules do not allow this request of {peer}"))
    }
}

impl Handler for Guarded {
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        let question =
            Question { peer: &context.peer.name, verb: event.verb, noun: event.target.noun() };
        if self.book.allows(&question) {
            self.inner.handle(context, event)
        } else {
            Ok(self.refuse(context, event))
        }
    }

    fn passes_on(&self, event: &Event) -> bool {
        self.inner.passes_on(event)
    }

    fn stop(&self) {
        self.inner.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::{CODE_REFUSED, RequestId, Verb};
    use crate::handler::{PeerIdentity, Role, Router};

    #[test]
    fn only_what_is_allowed_reaches_the_handler() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "allow WEB-* get time/*\n").unwrap();
        let book = Arc::new(Rulebook::open(file.path()).unwrap());
        let router =
            Router::new().on("get_time_utc", |_, _| Ok("now")).on("get_time", |_, _| Ok("x"));
        let guarded = Guarded::new(Arc::new(router), Arc::clone(&book));
        let ask = |peer: &str, target: &str| {
            let peer = PeerIdentity {
                name: peer.into(),
                fingerprint: String::new(),
                address: Ipv4Addr::LOCALHOST.into(),
            };
            let mut event = Event::new(Verb::Get, target).unwrap();
            let context = Context {
                role: Role::Server,
                peer: Arc::new(peer),
                request_id: RequestId::fresh(),
                cancelled: Arc::default(),
            };
            guarded.handle(&context, &mut event).map(|reply| (reply.code, reply.status))
        };
        assert_eq!(ask("web-1", "time/utc//any/parameter?or=query"), Ok((0, None)));
        // Also a noun without a handler: a peer without access learns nothing.
        for (peer, target) in [("web-1", "time"), ("db", "time/utc"), ("db", "nothing")] {
            assert_eq!(ask(peer, target), Ok((CODE_REFUSED, Some(403))), "{peer} {target}");
        }
        assert_eq!(ask("web-1", "time/none"), Err(Failure::Unhandled));
        let event = Event::new(Verb::Get, "time?%FC").unwrap();
        assert!(!guarded.passes_on(&event), "the router reads it");

        book.replace(crate::rules::Rules::parse(b"allow db get time").unwrap());
        assert_eq!(ask("db", "time"), Ok((0, None)));
        assert_eq!(ask("web-1", "time/utc"), Ok((CODE_REFUSED, Some(403))));
    }
}
