//! What answers the events of all links of a node: the handler behind its pool.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::pool::{Load, Pool};
use super::serving::{ServedEvent, ServedEvents};
use crate::event::{Event, Reply, Verb};
use crate::handler::{Context, Handler, Role, answer};
use crate::metrics::meter::{Mark, Meter, RequestOutcome};
use crate::sync::workers::Workers;

/// The handler and its threads.
pub struct EventService {
    pool: Pool<Job>,
    meter: Arc<dyn Meter>,
    handle: Arc<dyn Fn(Job) + Send + Sync>,
    /// Set when the node is stopping: how long peers are to stay away at most.
    draining: OnceLock<Duration>,
    /// Their threads send the bodies of requests in pieces.
    pub(super) uploads: Workers,
    /// Their threads carry connections.
    carriers: Workers,
}

/// One event, and the link's part that gets the answer.
struct Job {
    served: ServedEvent,
    events: Arc<ServedEvents>,
}

impl EventService {
    /// Starts the threads. `debug` lets the traces of failures out to the peers.
    pub fn start(
        role: Role,
        handler: Arc<dyn Handler>,
        debug: bool,
        meter: Arc<dyn Meter>,
    ) -> io::Result<Arc<Self>> {
        let counted = Arc::clone(&meter);
        let handle: Arc<dyn Fn(Job) + Send + Sync> =
            Arc::new(move |job| handle(handler.as_ref(), role, debug, counted.as_ref(), job));
        let handle_one = Arc::clone(&handle);
        let pool = Pool::start(move |job: Job| {
            let events = Arc::clone(&job.events);
            handle_one(job);
            while let Some(served) = events.queue.next() {
                handle_one(Job { served, events: Arc::clone(&events) });
            }
        })?;
        Ok(Arc::new(Self {
            pool,
            handle,
            meter,
            draining: OnceLock::new(),
            uploads: Workers::new("upload"),
            carriers: Workers::new("carry"),
        }))
    }

    /// What counts on the links.
    pub(super) fn meter(&self) -> &dyn Meter {
        self.meter.as_ref()
    }

    /// How busy the handlers' threads are.
    pub fn load(&self) -> Load {
        self.pool.load()
    }

    /// From now on every new event is refused; those at work are finished. A peer that understands a
    /// drain holds its events by itself: what it has sent before is handled.
    pub fn stop(&self, spread: Duration) {
        // A second stop is as good as one.
        let _ = self.draining.set(spread);
    }

    /// How long peers are to stay away at most, once the node is stopping.
    pub(super) fn draining(&self) -> Option<Duration> {
        self.draining.get().copied()
    }

    /// Has an event handled, without waiting, or refuses it.
    pub(super) fn submit(&self, events: &Arc<ServedEvents>, served: ServedEvent) {
        self.meter.mark(Mark::Asked);
        if self.draining.get().is_some() && !events.transport.capabilities().drain {
            return self.turn_away(events, &served, "this node is stopping");
        }
        if served.event.verb == Verb::Connect {
            return self.carry(Job { served, events: Arc::clone(events) });
        }
        if let Some(served) = events.queue.enter(served)
            && let Err(job) = self.pool.submit(Job { served, events: Arc::clone(events) })
        {
            events.queue.leave();
            self.turn_away(events, &job.served, "too many requests are being handled");
        }
    }

    /// Has a connection carried by a thread of its own: it lasts, and must not take the place of an
    /// event. How many there are is bounded with the events of one peer.
    fn carry(&self, job: Job) {
        let (events, id) = (Arc::clone(&job.events), job.served.id);
        let cancelled = Arc::clone(&job.served.cancelled);
        let handle = Arc::clone(&self.handle);
        if let Err(error) = self.carriers.run(move || handle(job)) {
            log::warn!("{}: no thread to carry a connection: {error}", events.transport.peer.name);
            self.count_turned_away(&events);
            let busy = Reply::busy("no thread for another connection");
            events.answer(id, Verb::Connect, &cancelled, busy);
        }
    }

    /// Refuses an event that was noted.
    fn turn_away(&self, events: &ServedEvents, served: &ServedEvent, why: &str) {
        self.count_turned_away(events);
        events.answer(served.id, served.event.verb, &served.cancelled, Reply::busy(why));
    }

    /// Refuses an event that was not noted.
    pub(super) fn refuse(&self, events: &ServedEvents, id: u32, why: &str) {
        self.count_turned_away(events);
        events.refuse(id, &Reply::busy(why));
    }

    /// Counts what is not handled, so that it can be seen on this side too.
    fn count_turned_away(&self, events: &ServedEvents) {
        events.outcomes.add(RequestOutcome::Exception);
        self.meter.mark(Mark::TurnedAway);
    }
}

/// Handles one event. A panic of the handler is its answer, and costs nothing else.
fn handle(handler: &dyn Handler, role: Role, debug: bool, meter: &dyn Meter, job: Job) {
    let Job { served: ServedEvent { id, mut event, cancelled }, events } = job;
    let context = Context {
        role,
        peer: Arc::clone(&events.transport.peer),
        request_id: event.request_id,
        cancelled: Arc::clone(&cancelled),
    };
    // The handler may change the event.
    let method = event.method_name();
    let began = Instant::now();
    let answered = catch_unwind(AssertUnwindSafe(|| answer(handler, &context, &mut event, debug)));
    let reply = answered.unwrap_or_else(|_| {
        let Context { peer, request_id, .. } = &context;
        log::error!("{}: the handler panicked (request {request_id}), see above", peer.name);
        Reply::exception("Panic", "the handler panicked", "")
    });
    events.outcomes.add(RequestOutcome::of_code(reply.code));
    meter.mark(Mark::Handled { method: &method, code: reply.code, took: began.elapsed() });
    let Event { verb, target, .. } = &event;
    log::debug!(
        "{}: request {}: {} {target} handled with code {}",
        context.peer.name,
        context.request_id,
        verb.as_str(),
        reply.code
    );
    let verb = *verb;
    // What the handler did not read of the body is not wanted.
    drop(event);
    events.answer(id, verb, &cancelled, reply);
}
