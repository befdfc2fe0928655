//! The event queue and the thread that calls the listeners.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use parking_lot::Mutex;

use super::connection_event::ConnectionEvent;
use super::idle::IdleTimer;
use super::listeners::{Ending, EventListeners, Notification};
use crate::event::peer::{PeerIdentity, Role};
use crate::sync::threads;
use crate::sync::throttle::Throttle;

/// Maximum queued events. Further events are dropped and logged.
pub const MAX_QUEUED: usize = 1024;
/// How long a stopping node keeps reporting queued events.
const FINISH_TIME: Duration = Duration::from_secs(1);
/// Extra time for a hook program killed at shutdown.
const KILL_TIME: Duration = Duration::from_millis(250);
/// How long an idle thread waits.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// Reports events to the listeners without waiting for them.
pub struct Events {
    /// Absent without listeners.
    queue: Option<Queue>,
    /// Connected clients, counted even if their event was dropped.
    clients: Arc<AtomicUsize>,
    /// Rate-limits the log line about dropped events.
    dropped: Throttle,
}

struct Queue {
    notifications: Sender<Notification>,
    /// Dropped to end the thread.
    running: Mutex<Option<Sender<()>>>,
    /// Disconnects when the thread has ended.
    ended: Receiver<()>,
    ending: Arc<Ending>,
}

impl Events {
    /// Starts the thread if there are listeners.
    pub fn start(role: Role, listeners: EventListeners) -> io::Result<Self> {
        let idle = match role {
            Role::Server => IdleTimer::new(Instant::now()),
            Role::Client => IdleTimer::never(),
        };
        Self::with_idle(idle, listeners)
    }

    fn with_idle(idle: IdleTimer, listeners: EventListeners) -> io::Result<Self> {
        let clients = Arc::new(AtomicUsize::new(0));
        let queue = if listeners.is_empty() {
            None
        } else {
            Some(Queue::start(idle, listeners, Arc::clone(&clients))?)
        };
        Ok(Self { queue, clients, dropped: Throttle::default() })
    }

    /// A connection is up.
    pub fn started(&self, peer: &Arc<PeerIdentity>) {
        self.enqueue(|| Notification::Started(Arc::clone(peer)));
    }

    /// A connection that was up has ended.
    pub fn stopped(&self, peer: &Arc<PeerIdentity>, why: &dyn ToString) {
        self.enqueue(|| Notification::Stopped(Arc::clone(peer), why.to_string()));
    }

    /// Reports an event.
    pub fn report(&self, event: ConnectionEvent) {
        if let ConnectionEvent::ConnectionAdded { count, .. }
        | ConnectionEvent::ConnectionRemoved { count, .. } = &event
        {
            self.clients.store(*count, Ordering::Release);
        }
        self.enqueue(|| Notification::Event(event));
    }

    fn enqueue(&self, notification: impl FnOnce() -> Notification) {
        let Some(queue) = &self.queue else { return };
        // Disconnected: the node has stopped.
        if let Err(TrySendError::Full(_)) = queue.notifications.try_send(notification())
            && let Some(more) = self.dropped.allow()
        {
            log::warn!("connection events: dropped one: {MAX_QUEUED} are queued{more}");
        }
    }

    /// Reports queued events for at most one second, then stops.
    pub fn finish(&self) {
        let Some(queue) = &self.queue else { return };
        let mut running = queue.running.lock();
        if let Some(running) = running.take() {
            queue.ending.set(Instant::now() + FINISH_TIME);
            drop(running);
            // Timed out: the thread ends when the listener returns.
            let _ = queue.ended.recv_timeout(FINISH_TIME + KILL_TIME);
        }
    }
}

impl Queue {
    fn start(
        idle: IdleTimer,
        listeners: EventListeners,
        clients: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        let (notifications, queued) = bounded(MAX_QUEUED);
        let (running, stopped) = bounded(0);
        let (alive, ended) = bounded(0);
        let ending = listeners.ending();
        let mut dispatcher = Dispatcher { listeners, clients, idle };
        threads::spawn("events", move || {
            let _alive = alive;
            dispatcher.run(&queued, &stopped);
        })?;
        Ok(Self { notifications, running: Mutex::new(Some(running)), ended, ending })
    }
}

/// The state of the thread.
struct Dispatcher {
    listeners: EventListeners,
    clients: Arc<AtomicUsize>,
    idle: IdleTimer,
}

impl Dispatcher {
    fn run(&mut self, queued: &Receiver<Notification>, stopped: &Receiver<()>) {
        loop {
            let wait = self.idle.wait(Instant::now()).unwrap_or(IDLE_WAIT);
            select! {
                recv(queued) -> one => match one {
                    Ok(one) => self.dispatch(&one),
                    // The node was dropped.
                    Err(_) => return,
                },
                recv(stopped) -> _ => break,
                default(wait) => self.report_idle(),
            }
        }
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= Instant::now());
        while !is_over(self.listeners.ending.deadline())
            && let Ok(one) = queued.try_recv()
        {
            self.dispatch(&one);
        }
    }

    /// Reports `idle` if no client has been connected for a minute.
    fn report_idle(&mut self) {
        let is_empty = self.clients.load(Ordering::Acquire) == 0;
        if self.idle.is_due(Instant::now()) && is_empty {
            self.dispatch(&Notification::Event(ConnectionEvent::Idle));
        }
    }

    fn dispatch(&mut self, notification: &Notification) {
        if let Notification::Event(
            ConnectionEvent::ConnectionAdded { .. } | ConnectionEvent::ConnectionRemoved { .. },
        ) = notification
        {
            self.idle.begin(Instant::now());
        }
        self.listeners.call(notification);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn peer(name: &str) -> Arc<PeerIdentity> {
        let address = Ipv4Addr::LOCALHOST.into();
        Arc::new(PeerIdentity { name: name.to_owned(), fingerprint: String::new(), address })
    }

    fn added(count: usize) -> ConnectionEvent {
        ConnectionEvent::ConnectionAdded { peer: peer("c"), count }
    }

    #[test]
    fn all_listeners_are_called_in_order_and_a_panic_costs_nothing() {
        let (sender, receiver) = bounded(10);
        let mut listeners = EventListeners::default();
        let (start, stop, other) = (sender.clone(), sender.clone(), sender);
        listeners.on_start(move |peer| start.send(format!("start {}", peer.name)).unwrap());
        listeners.on_stop(move |peer, why| stop.send(format!("stop {} {why}", peer.name)).unwrap());
        // Bypasses the panic hook, whose backtrace may outlast the shutdown timeout.
        listeners.on_event(|_| std::panic::resume_unwind(Box::new("on purpose")));
        listeners.on_event(move |event| other.send(event.name().to_owned()).unwrap());
        let events = Events::start(Role::Server, listeners).unwrap();
        events.started(&peer("a"));
        events.report(added(1));
        events.stopped(&peer("a"), &"enough");
        // Events still queued at shutdown are reported too.
        events.finish();
        assert_eq!(
            receiver.try_iter().collect::<Vec<_>>(),
            ["start a", "connection_added", "stop a enough"]
        );
        events.started(&peer("late"));
    }

    #[test]
    fn a_listener_that_hangs_holds_up_nobody_and_the_queue_has_an_end() {
        let (release, held) = bounded::<()>(0);
        let (sender, receiver) = bounded(2 * MAX_QUEUED);
        let mut listeners = EventListeners::default();
        listeners.on_event(move |event| {
            sender.send(event.clone()).unwrap();
            let _ = held.recv();
        });
        let events = Events::start(Role::Server, listeners).unwrap();
        events.report(added(1));
        assert_eq!(receiver.recv_timeout(TIMEOUT), Ok(added(1)));
        let started = Instant::now();
        for count in 2..2 * MAX_QUEUED {
            events.report(added(count));
        }
        assert!(started.elapsed() < TIMEOUT);
        assert_eq!(events.queue.as_ref().map(|queue| queue.notifications.len()), Some(MAX_QUEUED));
        // The earliest events are reported.
        drop(release);
        for count in 2..MAX_QUEUED + 2 {
            assert_eq!(receiver.recv_timeout(TIMEOUT), Ok(added(count)));
        }
    }

    #[test]
    fn the_end_is_bounded() {
        let (_release, held) = bounded::<()>(0);
        let mut listeners = EventListeners::default();
        listeners.on_event(move |_| {
            let _ = held.recv();
        });
        let events = Events::start(Role::Client, listeners).unwrap();
        events.report(ConnectionEvent::Idle);
        let started = Instant::now();
        events.finish();
        events.finish();
        assert!(started.elapsed() < TIMEOUT);
    }

    #[test]
    fn a_server_that_has_been_without_clients_for_a_minute_says_so() {
        let (sender, receiver) = bounded(10);
        let mut listeners = EventListeners::default();
        listeners.on_event(move |event| sender.send(event.clone()).unwrap());
        let a_minute_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let events = Events::with_idle(IdleTimer::new(a_minute_ago), listeners).unwrap();
        assert_eq!(receiver.recv_timeout(TIMEOUT), Ok(ConnectionEvent::Idle));
        events.report(added(1));
        assert_eq!(receiver.recv_timeout(TIMEOUT), Ok(added(1)));
    }

    /// The event that announces the client may still be queued, or dropped.
    #[test]
    fn a_server_with_a_client_does_not() {
        let (sender, receiver) = bounded(10);
        let mut listeners = EventListeners::default();
        listeners.on_event(move |event| sender.send(event.clone()).unwrap());
        let a_minute_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let clients = Arc::new(AtomicUsize::new(1));
        let mut dispatcher = Dispatcher { listeners, clients, idle: IdleTimer::new(a_minute_ago) };
        dispatcher.report_idle();
        assert!(dispatcher.idle.wait(Instant::now()) > Some(Duration::from_secs(50)));
        assert_eq!(receiver.try_recv().ok(), None);
    }

    #[test]
    fn nobody_is_no_thread() {
        let events = Events::start(Role::Server, EventListeners::default()).unwrap();
        assert!(events.queue.is_none());
        events.report(added(1));
        events.finish();
    }
}
