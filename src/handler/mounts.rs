//! Several handlers, selected by the noun's first segment.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use super::{Context, Failure, Handler};
use crate::event::{Event, Reply};

/// Several handlers, selected by the noun's first segment, which is removed: the handler at `api`
/// receives `v1/x` for a request of `api/v1/x`.
///
/// An encoded slash (`%2F`) does not separate segments. The rules see the whole noun decoded, where
/// such a slash looks like any other; so a noun that would lead to a different handler when decoded
/// is unhandled.
///
/// ```
/// use std::sync::Arc;
///
/// use restpipe::handler::{Mounts, Router};
///
/// let jobs = Router::new().on("get_job", |_, _| Ok("done"));
/// let rest = Router::new().on("get_time", |_, _| Ok("now"));
/// let mounts = Mounts::new().at("jobs", Arc::new(jobs)).otherwise(Arc::new(rest));
/// # let _ = mounts;
/// ```
#[derive(Default)]
pub struct Mounts {
    by_segment: HashMap<String, Arc<dyn Handler>>,
    rest: Option<Arc<dyn Handler>>,
}

impl Mounts {
    /// Creates mounts without handlers: every event is unhandled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the handler of this segment.
    pub fn at(mut self, segment: &str, handler: Arc<dyn Handler>) -> Self {
        self.by_segment.insert(segment.to_owned(), handler);
        self
    }

    /// Sets the handler for nouns that match no segment. It receives the noun unchanged.
    pub fn otherwise(mut self, handler: Arc<dyn Handler>) -> Self {
        self.rest = Some(handler);
        self
    }
}

impl Handler for Mounts {
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        let segment = event.target.first_segment();
        if let Some(handler) = self.by_segment.get(&*segment) {
            let below = event.target.without_first_segment();
            // Log lines show the whole noun, before and after the call.
            let whole = mem::replace(&mut event.target, below);
            let result = handler.handle(context, event);
            event.target = whole;
            return result;
        }
        let as_rules_see_it = segment.split('/').next().unwrap_or_default();
        if segment.contains('/') && self.by_segment.contains_key(as_rules_see_it) {
            return Err(Failure::Unhandled);
        }
        match &self.rest {
            Some(handler) => handler.handle(context, event),
            None => Err(Failure::Unhandled),
        }
    }

    fn passes_on(&self, event: &Event) -> bool {
        let mounted = self.by_segment.get(&*event.target.first_segment());
        mounted.or(self.rest.as_ref()).is_some_and(|handler| handler.passes_on(event))
    }

    fn stop(&self) {
        self.by_segment.values().chain(&self.rest).for_each(|handler| handler.stop());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::Verb;
    use crate::handler::{PeerIdentity, Role};

    /// Replies with its name and the request it received.
    struct Echo(&'static str);

    impl Handler for Echo {
        fn handle(&self, _: &Context, event: &mut Event) -> Result<Reply, Failure> {
            let target = &event.target;
            let raw = target.raw().unwrap_or("-");
            Ok(format!("{} {} {} {raw}", self.0, event.method_name(), target.decoded()).into())
        }
    }

    fn ask(mounts: &Mounts, target: &str) -> Option<String> {
        let peer = PeerIdentity {
            name: "c".into(),
            fingerprint: String::new(),
            address: Ipv4Addr::LOCALHOST.into(),
        };
        let mut event = Event::new(Verb::Get, target).unwrap();
        let asked = event.target.clone();
        let context = Context {
            role: Role::Server,
            peer: Arc::new(peer),
            request_id: event.request_id,
            cancelled: Arc::default(),
        };
        let reply = mounts.handle(&context, &mut event);
        assert_eq!(event.target, asked, "the whole noun is back");
        match reply {
            Ok(reply) => Some(String::from_utf8(reply.body.whole().unwrap().to_vec()).unwrap()),
            Err(failure) => {
                assert_eq!(failure, Failure::Unhandled);
                None
            }
        }
    }

    #[test]
    fn the_first_segment_chooses_and_is_taken_off() {
        let some = || Mounts::new().at("api", Arc::new(Echo("A"))).at("s.b", Arc::new(Echo("S")));
        let all = some().otherwise(Arc::new(Echo("*")));
        for (target, expected) in [
            ("api/v1/x", "A get_v1_x v1/x -"),
            ("api/v1/x?a=b", "A get_v1_x v1/x v1/x?a=b"),
            ("%61pi/v1", "A get_v1 v1 -"),
            ("api", "A get_  -"),
            ("api?a", "A get_  ?a"),
            ("api//x/y", "A get_ //x/y -"),
            ("s.b/file//a%2Fb/c", "S get_file file//a/b/c file//a%2Fb/c"),
        ] {
            assert_eq!(ask(&all, target).as_deref(), Some(expected), "{target}");
            assert_eq!(ask(&some(), target).as_deref(), Some(expected), "{target}");
        }
        for (target, expected) in [
            ("time/utc", "* get_time_utc time/utc -"),
            ("API/v1", "* get_API_v1 API/v1 -"),
            ("apis", "* get_apis apis -"),
            ("x%2Fapi/v1", "* get_x_api_v1 x/api/v1 x%2Fapi/v1"),
        ] {
            assert_eq!(ask(&all, target).as_deref(), Some(expected), "{target}");
            assert_eq!(ask(&some(), target), None, "{target}");
        }
        // The rules see it as a noun of `api`.
        assert_eq!(ask(&all, "api%2Fv1/x"), None);
    }
}
