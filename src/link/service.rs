//! What answers the events of all links of a node: the handler behind its pool.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::pool::{Load, Pool};
use super::{Link, lock};
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
    leaving: OnceLock<Duration>,
    /// Their threads send the bodies of requests in pieces.
    pub(super) uploads: Workers,
    /// Their threads carry connections.
    carriers: Workers,
}

/// Most handlers that run for one peer at a time: its further events wait for each other, so that the
/// threads are not all taken by one peer whose events take long.
const MAX_RUNNING: usize = 128;

/// One event that is to be handled, and the link that gets the answer.
struct Job {
    link: Arc<Link>,
    id: u32,
    event: Event,
    cancelled: Arc<AtomicBool>,
}

impl EventService {
    /// Starts the threads. `debug` lets the traces of failures out to the peers.
    pub fn start(
        role: Role,
        handler: Arc<dyn Handler>,
        debug: bool,
        meter: Arc<dyn Meter>,
    ) -> io::Result<Arc<Self>> {
        let handle: Arc<dyn Fn(Job) + Send + Sync> =
            Arc::new(move |job| handle(handler.as_ref(), role, debug, job));
        let handle_one = Arc::clone(&handle);
        let pool = Pool::start(move |job: Job| {
            let link = Arc::clone(&job.link);
            let mut next = Some(job);
            while let Some(job) = next {
                handle_one(job);
                next = link.turns.next();
            }
        })?;
        Ok(Arc::new(Self {
            pool,
            handle,
            meter,
            leaving: OnceLock::new(),
            uploads: Workers::new("upload"),
            carriers: Workers::new("carry"),
        }))
    }

    /// Who counts what happens on the links.
    pub(super) fn meter(&self) -> &dyn Meter {
        self.meter.as_ref()
    }

    /// How busy the handlers' threads are.
    pub fn load(&self) -> Load {
        self.pool.load()
    }

    /// From now on every new event is refused; those at work are finished. A peer that is told of the
    /// end holds its events by itself: what it has sent before is handled.
    pub fn stop(&self, spread: Duration) {
        // A second stop is as good as one.
        let _ = self.leaving.set(spread);
    }

    /// How long peers are to stay away at most, once the node is stopping.
    pub(super) fn leaving(&self) -> Option<Duration> {
        self.leaving.get().copied()
    }

    /// Has an event handled, without waiting. It was noted with [`Link::begin`].
    pub(super) fn submit(
        &self,
        link: &Arc<Link>,
        id: u32,
        event: Event,
        cancelled: Arc<AtomicBool>,
    ) {
        self.meter.mark(Mark::Asked);
        if self.leaving.get().is_some() && !link.capabilities().drain {
            self.turned_away(link);
            return link.answer(id, event.verb, Reply::busy("this node is stopping"));
        }
        let verb = event.verb;
        let job = Job { link: Arc::clone(link), id, event, cancelled };
        if verb == Verb::Connect {
            return self.carry(job);
        }
        if let Some(job) = link.turns.take(job)
            && self.pool.submit(job).is_err()
        {
            link.turns.give_back();
            self.turned_away(link);
            link.answer(id, verb, Reply::busy("too many requests are being handled"));
        }
    }

    /// Has a connection carried by a thread of its own: it lasts, and must not take the place of an
    /// event. How many there are is bounded with the events of one peer.
    fn carry(&self, job: Job) {
        let (link, id) = (Arc::clone(&job.link), job.id);
        let handle = Arc::clone(&self.handle);
        if let Err(error) = self.carriers.run(move || handle(job)) {
            log::warn!("{}: no thread to carry a connection: {error}", link.peer.name);
            self.turned_away(&link);
            link.answer(id, Verb::Connect, Reply::busy("no thread for another connection"));
        }
    }

    /// Refuses an event that was not noted.
    pub(super) fn refuse(&self, link: &Link, id: u32, why: &str) {
        self.turned_away(link);
        link.send_reply(id, &Reply::busy(why), false);
    }

    /// Counts what is not handled, so that it can be seen on this side too.
    fn turned_away(&self, link: &Link) {
        link.counts.handled.add(RequestOutcome::Exception);
        self.meter.mark(Mark::TurnedAway);
    }
}

/// Handles one event. A panic of the handler is its answer, and costs nothing else.
fn handle(handler: &dyn Handler, role: Role, debug: bool, mut job: Job) {
    let context = Context {
        role,
        peer: Arc::clone(job.link.peer()),
        request_id: job.event.request_id,
        cancelled: Arc::clone(&job.cancelled),
    };
    // The handler may change the event.
    let method = job.event.method_name();
    let began = Instant::now();
    let answered =
        catch_unwind(AssertUnwindSafe(|| answer(handler, &context, &mut job.event, debug)));
    let reply = answered.unwrap_or_else(|_| {
        let Context { peer, request_id, .. } = &context;
        log::error!("{}: the handler panicked (request {request_id}), see above", peer.name);
        Reply::exception("Panic", "the handler panicked", "")
    });
    let meter = job.link.service.meter();
    job.link.counts.handled.add(RequestOutcome::of_code(reply.code));
    meter.mark(Mark::Handled { method: &method, code: reply.code, took: began.elapsed() });
    log::debug!(
        "{}: request {}: {} {} handled with code {}",
        context.peer.name,
        context.request_id,
        job.event.verb.as_str(),
        job.event.target,
        reply.code
    );
    // What the handler did not read of the body is not wanted.
    let verb = job.event.verb;
    drop(job.event);
    job.link.answer(job.id, verb, reply);
}

/// Whose turn it is among the events of one peer.
#[derive(Default)]
pub(super) struct Turns {
    /// Guards who runs and who waits. Nothing is handled while it is held.
    state: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    running: usize,
    /// Bounded by the number of events that one peer may have handled at once.
    waiting: VecDeque<Job>,
    closed: bool,
}

impl Turns {
    /// Gives a job back that may run now; keeps one that has to wait.
    fn take(&self, job: Job) -> Option<Job> {
        let mut state = lock(&self.state);
        if state.running < MAX_RUNNING {
            state.running += 1;
            return Some(job);
        }
        if !state.closed {
            state.waiting.push_back(job);
        }
        None
    }

    /// A job is done: the one that runs in its place.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.running -= 1;
        }
        next
    }

    /// A job that was given back cannot run.
    fn give_back(&self) {
        lock(&self.state).running -= 1;
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// The link has ended: nobody waits for those that wait.
    pub fn close(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}
