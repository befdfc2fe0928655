//! Answers the events of all links of a node: the handler and its thread pool.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::peer_account::{PeerAccount, PeerAccounts};
use super::peer_queue::Entered;
use super::pool::{Load, MAX_THREADS, Pool};
use super::serving::{Job, ServedEvent, ServedEvents};
use crate::event::{Event, Reply, Verb};
use crate::handler::{Context, Handler, Role, answer};
use crate::metrics::meter::{HandledMethod, Mark, Meter, RequestOutcome};
use crate::sync::shares::{Places, Shares};
use crate::sync::workers::Workers;

/// Maximum events of one peer that run at the same time.
const MAX_RUNNING_OF_PEER: usize = 128;
/// Maximum connections that are carried for peers.
const MAX_CARRIED: usize = 2048;
/// Maximum of those for one peer; fewer where peers share them.
const MAX_CARRIED_OF_PEER: usize = 1024;

/// The handler and its threads.
pub struct EventService {
    pool: Pool<Job>,
    meter: Arc<dyn Meter>,
    handle: Arc<dyn Fn(Job) + Send + Sync>,
    /// Set when the node is stopping: the maximum time until peers reconnect.
    draining: OnceLock<Duration>,
    /// Threads that send the bodies of requests in pieces.
    pub(super) uploads: Workers,
    /// Threads that carry tunnelled connections.
    carriers: Workers,
    /// The tunnelled connections of each peer.
    carried: Arc<Shares>,
    accounts: PeerAccounts<Job>,
}

impl EventService {
    /// Starts the threads. `debug` includes failure traces in replies to peers.
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
            while let Some(job) = events.account.queue.next() {
                handle_one(job);
            }
        })?;
        let handlers = Arc::new(Places::new(MAX_THREADS, MAX_RUNNING_OF_PEER));
        Ok(Arc::new(Self {
            pool,
            handle,
            meter,
            draining: OnceLock::new(),
            uploads: Workers::new("upload"),
            carriers: Workers::new("carry"),
            carried: Shares::new(Places::new(MAX_CARRIED, MAX_CARRIED_OF_PEER)),
            accounts: PeerAccounts::new(handlers),
        }))
    }

    /// The metrics of the links.
    pub(super) fn meter(&self) -> &dyn Meter {
        self.meter.as_ref()
    }

    /// The account of a peer, for a new link.
    pub(super) fn account(&self, name: &str, max_data: usize) -> Arc<PeerAccount<Job>> {
        self.accounts.of(name, max_data)
    }

    /// Load of the handler threads.
    pub fn load(&self) -> Load {
        self.pool.load()
    }

    /// Refuses new events from now on; running ones finish. A peer that supports draining holds its
    /// events back itself: what it had sent before is handled.
    pub fn stop(&self, spread: Duration) {
        // Stopping twice is harmless.
        let _ = self.draining.set(spread);
    }

    /// The maximum time until peers reconnect, once the node is stopping.
    pub(super) fn draining(&self) -> Option<Duration> {
        self.draining.get().copied()
    }

    /// Queues an event for its handler without waiting, or refuses it.
    pub(super) fn submit(&self, events: &Arc<ServedEvents>, served: ServedEvent) {
        self.meter.mark(Mark::Asked);
        if self.draining.get().is_some() && !events.transport.capabilities().drain {
            return self.turn_away(events, &served, "this node is stopping");
        }
        if served.event.verb == Verb::Connect {
            return self.carry(Job::new(served, events));
        }
        let turned_away = match events.account.queue.enter(Job::new(served, events)) {
            Entered::Waits => return,
            Entered::Runs(job) => match self.pool.submit(job) {
                Ok(()) => return,
                Err(job) => {
                    events.account.queue.leave();
                    job
                }
            },
            Entered::TurnedAway(job) => job,
        };
        self.turn_away(events, &turned_away.served, "too many requests are being handled");
    }

    /// Runs a tunnelled connection on its own thread, because it is long-lived and must not occupy
    /// a handler.
    fn carry(&self, job: Job) {
        let (events, id) = (Arc::clone(&job.events), job.served.id);
        let cancelled = Arc::clone(&job.served.cancelled);
        let refuse = |why: &str| {
            self.count_turned_away(&events);
            events.answer(id, Verb::Connect, &cancelled, Reply::busy(why));
        };
        let Some(share) = self.carried.take(&events.transport.peer.name) else {
            return refuse("too many connections are carried for this peer");
        };
        let handle = Arc::clone(&self.handle);
        let carry = move || {
            let _share = share;
            handle(job);
        };
        if let Err(error) = self.carriers.run(carry) {
            log::warn!(
                "{}: no thread for a tunnelled connection: {error}",
                events.transport.peer.name
            );
            refuse("no thread for another connection");
        }
    }

    /// Refuses a registered event.
    fn turn_away(&self, events: &ServedEvents, served: &ServedEvent, why: &str) {
        self.count_turned_away(events);
        events.answer(served.id, served.event.verb, &served.cancelled, Reply::busy(why));
    }

    /// Refuses an event that was not registered.
    pub(super) fn refuse(&self, events: &ServedEvents, id: u32, why: &str) {
        self.count_turned_away(events);
        events.refuse(id, &Reply::busy(why));
    }

    /// Counts a refused event, so that it shows in this side's metrics too.
    fn count_turned_away(&self, events: &ServedEvents) {
        events.outcomes.add(RequestOutcome::Exception);
        self.meter.mark(Mark::TurnedAway);
    }
}

/// Handles one event. A handler's panic becomes the reply, and affects nothing else.
fn handle(handler: &dyn Handler, role: Role, debug: bool, meter: &dyn Meter, job: Job) {
    // Its memory counts until it is answered.
    let Job { served: ServedEvent { id, mut event, cancelled, held: _held }, events } = job;
    let context = Context {
        role,
        peer: Arc::clone(&events.transport.peer),
        request_id: event.request_id,
        cancelled: Arc::clone(&cancelled),
    };
    // The handler may change the event.
    let method = event.method_name();
    let is_readable = event.target.check().is_ok();
    let is_passed_on = handler.passes_on(&event);
    let began = Instant::now();
    let answered = catch_unwind(AssertUnwindSafe(|| answer(handler, &context, &mut event, debug)));
    let reply = answered.unwrap_or_else(|_| {
        let Context { peer, request_id, .. } = &context;
        log::error!("{}: the handler panicked (request {request_id}), see above", peer.name);
        Reply::exception("Panic", "the handler panicked", "")
    });
    events.outcomes.add(RequestOutcome::of_code(reply.code));
    let method = match is_passed_on {
        false if is_readable => HandledMethod::Known(&method),
        true if reply.status.is_none_or(|status| status < 400) => HandledMethod::PassedOn(&method),
        _ => HandledMethod::Unknown,
    };
    meter.mark(Mark::Handled { method, code: reply.code, took: began.elapsed() });
    let Event { verb, target, .. } = &event;
    log::debug!(
        "{}: request {}: {} {target} handled with code {}",
        context.peer.name,
        context.request_id,
        verb.as_str(),
        reply.code
    );
    let verb = *verb;
    // Stops a body that the handler did not read to its end.
    drop(event);
    events.answer(id, verb, &cancelled, reply);
}
