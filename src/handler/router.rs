//! Closures selected by method name.

use std::collections::HashMap;

use super::{Context, Failure, Handler, verbs_where};
use crate::event::{Event, Reply};

type Method = Box<dyn Fn(&Context, &mut Event) -> Result<Reply, Failure> + Send + Sync>;

/// A handler made of closures, each registered under the method name for a verb and noun:
/// `get_time` for `GET time`, `get_time_utc` for `GET time/utc`.
///
/// ```
/// use restpipe::handler::Router;
/// use serde_json::json;
///
/// let router = Router::new()
///     .on("get_sum", |_, event| {
///         let numbers: Result<Vec<i64>, _> =
///             event.target.parameters().iter().map(|p| p.parse()).collect();
///         Ok(json!({ "sum": numbers?.iter().sum::<i64>() }))
///     })
///     .on("post_note", |_, _| Ok("noted"));
/// # let _ = router;
/// ```
#[derive(Default)]
pub struct Router {
    methods: HashMap<String, Method>,
}

impl Router {
    /// Creates a router without methods: every event is unhandled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the method with this name.
    pub fn on<F, R>(mut self, method_name: &str, method: F) -> Self
    where
        F: Fn(&Context, &mut Event) -> Result<R, Failure> + Send + Sync + 'static,
        R: Into<Reply>,
    {
        let method: Method = Box::new(move |context, event| method(context, event).map(Into::into));
        self.methods.insert(method_name.to_owned(), method);
        self
    }
}

impl Handler for Router {
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        if let Some(method) = self.methods.get(&event.method_name()) {
            return method(context, event);
        }
        let allowed = verbs_where(|verb| self.methods.contains_key(&event.method_name_for(verb)));
        Err(if allowed.is_empty() { Failure::Unhandled } else { Failure::WrongVerb(allowed) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::event::Verb;
    use crate::handler::{PeerIdentity, Role};

    fn ask(verb: Verb, target: &str) -> Result<Reply, Failure> {
        let router = Router::new()
            .on("get_time_utc", |_, _| Ok("now"))
            .on("put_time_utc", |_, event| Ok(event.target.parameters().join("+")))
            .on("get_fail", |_, _| Err::<(), _>(Failure::exception("Odd", "no")));
        let peer = PeerIdentity {
            name: "c".into(),
            fingerprint: String::new(),
            address: Ipv4Addr::LOCALHOST.into(),
        };
        let mut event = Event::new(verb, target).unwrap();
        let context = Context {
            role: Role::Server,
            peer: Arc::new(peer),
            request_id: event.request_id,
            cancelled: Arc::default(),
        };
        router.handle(&context, &mut event)
    }

    #[test]
    fn a_method_is_found_by_verb_and_noun() {
        assert_eq!(ask(Verb::Get, "time/utc").unwrap().body.whole(), Some(&b"now"[..]));
        assert_eq!(ask(Verb::Put, "time/utc//a/b").unwrap().body.whole(), Some(&b"a+b"[..]));
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        assert_eq!(ask(Verb::Get, "time"), Err(Failure::Unhandled));
        assert_eq!(
            ask(Verb::Post, "time/utc"),
            Err(Failure::WrongVerb(vec![Verb::Get, Verb::Put]))
        );
        assert!(matches!(ask(Verb::Get, "fail"), Err(Failure::Exception { .. })));
    }
}
