//! What answers the events of all links of a node: the handler behind its pool.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Link;
use super::pool::Pool;
use crate::event::{Event, Reply};
use crate::handler::{Context, Handler, Role, answer};

/// The handler and its threads.
pub struct Service {
    pool: Pool<Job>,
    stopping: AtomicBool,
}

/// One event that is to be handled, and the link that gets the answer.
struct Job {
    link: Arc<Link>,
    id: u32,
    event: Event,
}

impl Service {
    /// Starts the threads. `debug` lets the traces of failures out to the peers.
    pub fn start(role: Role, handler: Arc<dyn Handler>, debug: bool) -> io::Result<Arc<Self>> {
        let pool = Pool::start(move |job: Job| {
            let peer = Arc::clone(job.link.peer());
            let context = Context { role, peer, request_id: job.event.request_id };
            let answered = catch_unwind(AssertUnwindSafe(|| {
                answer(handler.as_ref(), &context, &job.event, debug)
            }));
            let reply = answered.unwrap_or_else(|_| {
                let Context { peer, request_id, .. } = &context;
                log::error!(
                    "{}: the handler panicked (request {request_id}), see above",
                    peer.name
                );
                Reply::exception("Panic", "the handler panicked", "")
            });
            log::debug!(
                "{}: request {}: {} {} handled with code {}",
                context.peer.name,
                context.request_id,
                job.event.verb.as_str(),
                job.event.target,
                reply.code
            );
            job.link.answer(job.id, &reply);
        })?;
        Ok(Arc::new(Self { pool, stopping: AtomicBool::new(false) }))
    }

    /// From now on every new event is refused; those at work are finished.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Has an event handled, without waiting. It was noted with [`Link::begin`].
    pub(super) fn submit(&self, link: &Arc<Link>, id: u32, event: Event) {
        if self.stopping.load(Ordering::Acquire) {
            link.answer(id, &Reply::busy("this node is stopping"));
        } else if self.pool.submit(Job { link: Arc::clone(link), id, event }).is_err() {
            link.answer(id, &Reply::busy("too many requests are being handled"));
        }
    }

    /// Refuses an event that was not noted.
    pub(super) fn refuse(&self, link: &Link, id: u32, why: &str) {
        link.send_reply(id, &Reply::busy(why), false);
    }
}
