//! What answers events: the [`Handler`] trait, a [`Router`] of closures, [`Files`] and [`Service`] that
//! need no program, [`Mounts`] of several, and the [`example`] that runs where nothing else is configured.
//!
//! In scope: from an event to its reply. Not in scope: threads, the pipe, where a reply goes.

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

use crate::event::{Event, Reply, RequestId, Verb};

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
    /// Answers one event. It may take its time: it delays neither the pipe nor other events. The
    /// event's body may arrive while it is read, and the reply's body may be a stream that is read
    /// while it is sent.
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure>;

    /// The node has stopped, and nobody waits for any reply: what is still running has to end, and may
    /// take a moment for that. A handler that wraps others calls their `stop`.
    fn stop(&self) {}
}

/// Who asks, and where the handler runs.
#[derive(Clone, Debug)]
pub struct Context {
    /// The side on which the handler runs.
    pub role: Role,
    /// The peer that asks.
    pub peer: Arc<PeerIdentity>,
    /// What the request is called in the logs of both sides, and in the caller's `X-Request-Id`.
    pub request_id: RequestId,
    /// Set when nobody waits for the reply.
    pub cancelled: Arc<AtomicBool>,
}

impl Context {
    /// Whether nobody waits for the reply, so that a long handler may stop: the caller went
    /// away, or the connection was lost.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// The reply for whatever a handler returns, as it goes over the wire. `debug` lets the trace of a
/// failure out.
pub fn answer(handler: &dyn Handler, context: &Context, event: &mut Event, debug: bool) -> Reply {
    let failure = match handler.handle(context, event) {
        Ok(reply) => return reply,
        Err(failure) => failure,
    };
    match failure {
        Failure::Unhandled => Reply::unhandled(),
        Failure::WrongVerb(allowed) => Reply::wrong_verb(&allowed),
        Failure::Exception { class, message, trace } => {
            // A failure of a handler that nobody waits for is no news.
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

/// Which of all verbs `handles` says yes to.
fn verbs_where(handles: impl Fn(Verb) -> bool) -> Vec<Verb> {
    Verb::ALL.into_iter().filter(|verb| handles(*verb)).collect()
}
