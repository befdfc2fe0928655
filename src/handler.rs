//! Handlers that answer events: the [`Handler`] trait, a [`Router`] of closures, [`Files`] and
//! [`Service`], which need no code, [`Mounts`] to combine handlers, and the default [`example`].
//!
//! In scope: from an event to its reply. Not in scope: threads, the pipe, delivering a reply.

mod example;
mod exec;
mod failure;
mod files;
mod guarded;
mod mounts;
mod range;
mod reverse_proxy;
mod router;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use crate::event::peer::{PeerIdentity, Role};
pub use example::example;
pub use exec::Exec;
pub use failure::Failure;
pub use files::Files;
pub use guarded::Guarded;
pub use mounts::Mounts;
pub use reverse_proxy::Service;
pub use router::Router;

use crate::event::{Event, Reply, RequestId, Verb, errors, header};

/// Answers events. One value serves all threads at once.
///
/// A [`Router`] of closures will do for most programs. A type of its own, which has state or decides
/// by more than the method's name, looks like this:
///
/// ```
/// use std::io::Read;
///
/// use restpipe::{Context, Event, Failure, Handler, Reply, Verb};
///
/// /// `POST count` answers how many bytes it was sent, however many.
/// struct Counter;
///
/// impl Handler for Counter {
///     fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
///         if event.target.noun() != "count" {
///             return Err(Failure::Unhandled);
///         }
///         if event.verb != Verb::Post {
///             return Err(Failure::WrongVerb(vec![Verb::Post]));
///         }
///         let (mut count, mut buffer) = (0, [0; 8192]);
///         loop {
///             match event.body.read(&mut buffer)? {
///                 0 => return Ok(Reply::from(format!("{count} bytes of {}", context.peer.name))),
///                 some => count += some,
///             }
///             if context.is_cancelled() {
///                 return Err(Failure::exception("Cancelled", "nobody waits for the reply"));
///             }
///         }
///     }
/// }
/// ```
pub trait Handler: Send + Sync {
    /// Answers one event. It may block: it delays neither the pipe nor other events. The event's
    /// body may still be arriving while it is read, and the reply's body may be a stream that is
    /// read while it is sent.
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure>;

    /// Whether this event would only be passed on, so that its parameters and query may be anything.
    /// For other events that cannot be read ([`Target::check`](crate::event::Target::check)) the
    /// node answers 400 itself. A handler that wraps others asks the one that would be called.
    fn passes_on(&self, _event: &Event) -> bool {
        false
    }

    /// The node has stopped, and no reply will be delivered: running calls must finish, and may
    /// take a moment. A handler that wraps others calls their `stop`.
    fn stop(&self) {}
}

/// The requesting peer, and the side the handler runs on.
#[derive(Clone, Debug)]
pub struct Context {
    /// The side on which the handler runs.
    pub role: Role,
    /// The requesting peer.
    pub peer: Arc<PeerIdentity>,
    /// The id of the request in the logs of both sides, and in the answer's `RP-Request-Id`.
    pub request_id: RequestId,
    /// Set when the reply is no longer awaited.
    pub cancelled: Arc<AtomicBool>,
}

impl Context {
    /// Whether the reply is no longer awaited, so that a long-running handler can stop: the caller
    /// disconnected, or the connection to the peer was lost.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// Converts a handler's result into the reply that is sent. `debug` includes the trace of a
/// failure.
pub fn answer(handler: &dyn Handler, context: &Context, event: &mut Event, debug: bool) -> Reply {
    if let Err(error) = event.target.check()
        && !handler.passes_on(event)
    {
        return errors::BAD_PATH.reply(&error.to_string());
    }
    let failure = match handler.handle(context, event) {
        Ok(mut reply) => {
            remove_unsendable(&mut reply, context, event);
            return reply;
        }
        Err(failure) => failure,
    };
    match failure {
        Failure::Unhandled => Reply::unhandled(),
        Failure::WrongVerb(allowed) => Reply::wrong_verb(&allowed),
        Failure::Exception { class, message, trace } => {
            // A failure is not worth a warning if the reply is no longer awaited.
            let level = if context.is_cancelled() { log::Level::Debug } else { log::Level::Warn };
            log::log!(
                level,
                "{}: {} failed (request {}): {class}: {}",
                context.peer.name,
                event.method_name().escape_debug(),
                context.request_id,
                message.escape_debug()
            );
            Reply::exception(&class, &message, if debug { &trace } else { "" })
        }
    }
}

/// Removes headers that are none, such as one with a line feed in its value, and says so.
fn remove_unsendable(reply: &mut Reply, context: &Context, event: &Event) {
    let mut removed = header::remove_unsendable(&mut reply.headers);
    if !header::is_clean(&reply.media_type) {
        reply.media_type.clear();
        removed.push("Content-Type".to_owned());
    }
    if !removed.is_empty() {
        log::warn!(
            "{}: the reply of {} (request {}) lost headers that cannot be sent, or are too many or \
             too long: {}",
            context.peer.name,
            event.method_name().escape_debug(),
            context.request_id,
            removed.join(", ").escape_debug()
        );
    }
}

/// The verbs for which `handles` returns true.
fn verbs_where(handles: impl Fn(Verb) -> bool) -> Vec<Verb> {
    Verb::ALL.into_iter().filter(|verb| handles(*verb)).collect()
}
