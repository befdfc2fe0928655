//! Connection events: who came, who went, what failed; told one after another, in order.
//!
//! In scope: what is told, and the one thread that tells it, so that whoever listens may take their
//! time without holding up a pipe. Not in scope: when something happens (`node`), programs that are run
//! (`hook`).

pub mod hook;
mod idle;
mod listeners;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use parking_lot::Mutex;

use crate::event::peer::{PeerIdentity, Role};
use crate::sync::threads;
use crate::sync::throttle::Throttle;
use idle::Idle;
pub use listeners::{Ending, Listeners};

/// Most events that wait for those who listen. What comes beyond that is left out, and the log says
/// so.
pub const MAX_QUEUED: usize = 1024;
/// How long a node that stops still tells what has happened.
const LAST: Duration = Duration::from_secs(1);
/// What a program that is killed at the end may take beyond that.
const GRACE: Duration = Duration::from_millis(250);
/// With nothing to do the thread waits this long.
const LONGEST: Duration = Duration::from_secs(3600);

/// What happens to the connections of a node. The first two are told on clients, the others on servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The server is connected, where it was not. A client that renews its connection while it stands
    /// is connected all the time.
    ConnectSuccess {
        /// The server.
        peer: Arc<PeerIdentity>,
    },
    /// An attempt to connect has failed; the next follows by itself.
    ConnectFail {
        /// How many have failed one after another, this one included.
        attempts: u64,
        /// When the last connection was lost; absent where there was none.
        lost_at: Option<SystemTime>,
        /// Why this one failed, in a line.
        reason: String,
    },
    /// A client is connected, where it was not. One that comes again from elsewhere before its old
    /// connection has ended is removed and added.
    ConnectionAdded {
        /// The client.
        peer: Arc<PeerIdentity>,
        /// How many clients are connected now, this one included.
        count: usize,
    },
    /// A client is connected no longer.
    ConnectionRemoved {
        /// The client.
        peer: Arc<PeerIdentity>,
        /// How many clients are connected now.
        count: usize,
    },
    /// No client has been connected for a minute; told again each minute until there is one.
    Idle,
}

impl ConnectionEvent {
    /// Its name: `connect_success`, `connect_fail`, `connection_added`, `connection_removed` or `idle`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectSuccess { .. } => "connect_success",
            Self::ConnectFail { .. } => "connect_fail",
            Self::ConnectionAdded { .. } => "connection_added",
            Self::ConnectionRemoved { .. } => "connection_removed",
            Self::Idle => "idle",
        }
    }
}

/// What the thread is told.
enum News {
    Started(Arc<PeerIdentity>),
    Stopped(Arc<PeerIdentity>, String),
    Event(ConnectionEvent),
}

/// The way to those who listen. Telling waits for nobody.
pub struct Events {
    /// Absent where nobody listens.
    telling: Option<Telling>,
    /// Connected clients, also where the event that says so was left out.
    clients: Arc<AtomicUsize>,
    /// Keeps events that are left out from flooding the log.
    left_out: Throttle,
}

struct Telling {
    queue: Sender<News>,
    /// Dropped to end the thread.
    running: Mutex<Option<Sender<()>>>,
    /// Disconnects when the thread has ended.
    ended: Receiver<()>,
    ending: Arc<Ending>,
}

impl Events {
    /// Starts the thread, where anybody listens.
    pub fn start(role: Role, listeners: Listeners) -> io::Result<Self> {
        let idle = match role {
            Role::Server => Idle::new(Instant::now()),
            Role::Client => Idle::never(),
        };
        Self::with_idle(idle, listeners)
    }

    fn with_idle(idle: Idle, listeners: Listeners) -> io::Result<Self> {
        let clients = Arc::new(AtomicUsize::new(0));
        let telling = if listeners.is_empty() {
            None
        } else {
            Some(Telling::start(idle, listeners, Arc::clone(&clients))?)
        };
        Ok(Self { telling, clients, left_out: Throttle::default() })
    }

    /// A connection stands.
    pub fn started(&self, peer: &Arc<PeerIdentity>) {
        self.tell(|| News::Started(Arc::clone(peer)));
    }

    /// A connection that stood has ended.
    pub fn stopped(&self, peer: &Arc<PeerIdentity>, why: &dyn ToString) {
        self.tell(|| News::Stopped(Arc::clone(peer), why.to_string()));
    }

    /// Something else has happened.
    pub fn tell_event(&self, event: ConnectionEvent) {
        if let ConnectionEvent::ConnectionAdded { count, .. }
        | ConnectionEvent::ConnectionRemoved { count, .. } = &event
        {
            self.clients.store(*count, Ordering::Release);
        }
        self.tell(|| News::Event(event));
    }

    fn tell(&self, news: impl FnOnce() -> News) {
        let Some(telling) = &self.telling else { return };
        // Disconnected: the node has stopped.
        if let Err(TrySendError::Full(_)) = telling.queue.try_send(news())
            && let Some(more) = self.left_out.allow()
        {
            log::warn!(
                "connection events: one is dropped, for {MAX_QUEUED} are queued already{more}"
            );
        }
    }

    /// Tells what has happened so far, for a second at most, and ends.
    pub fn finish(&self) {
        let Some(telling) = &self.telling else { return };
        let mut running = telling.running.lock();
        if let Some(running) = running.take() {
            telling.ending.set(Instant::now() + LAST);
            drop(running);
            // Not in time: it ends when the listener does.
            let _ = telling.ended.recv_timeout(LAST + GRACE);
        }
    }
}

impl Telling {
    fn start(idle: Idle, listeners: Listeners, clients: Arc<AtomicUsize>) -> io::Result<Self> {
        let (queue, news) = bounded(MAX_QUEUED);
        let (running, stopped) = bounded(0);
        let (alive, ended) = bounded(0);
        let ending = listeners.ending();
        let mut teller = Teller { listeners, clients, idle };
        threads::spawn("events", move || {
            let _alive = alive;
            teller.run(&news, &stopped);
        })?;
        Ok(Self { queue, running: Mutex::new(Some(running)), ended, ending })
    }
}

/// What the thread has.
struct Teller {
    listeners: Listeners,
    clients: Arc<AtomicUsize>,
    idle: Idle,
}

impl Teller {
    fn run(&mut self, news: &Receiver<News>, stopped: &Receiver<()>) {
        loop {
            let wait = self.idle.wait(Instant::now()).unwrap_or(LONGEST);
            select! {
                recv(news) -> one => match one {
                    Ok(one) => self.tell(&one),
                    // The node was dropped.
                    Err(_) => return,
                },
                recv(stopped) -> _ => break,
                default(wait) => self.look(),
            }
        }
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= Instant::now());
        while !is_over(self.listeners.ending.deadline())
            && let Ok(one) = news.try_recv()
        {
            self.tell(&one);
        }
    }

    /// A minute has passed, or an hour.
    fn look(&mut self) {
        let is_empty = self.clients.load(Ordering::Acquire) == 0;
        if self.idle.is_due(Instant::now()) && is_empty {
            self.tell(&News::Event(ConnectionEvent::Idle));
        }
    }

    fn tell(&mut self, news: &News) {
        if let News::Event(
            ConnectionEvent::ConnectionAdded { .. } | ConnectionEvent::ConnectionRemoved { .. },
        ) = news
        {
            self.idle.begin(Instant::now());
        }
        self.listeners.hear(news);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn peer(name: &str) -> Arc<PeerIdentity> {
        let address = Ipv4Addr::LOCALHOST.into();
        Arc::new(PeerIdentity { name: name.to_owned(), fingerprint: String::new(), address })
    }

    fn added(count: usize) -> ConnectionEvent {
        ConnectionEvent::ConnectionAdded { peer: peer("c"), count }
    }

    #[test]
    fn all_listeners_are_called_in_order_and_a_panic_costs_nothing() {
        let (said, heard) = bounded(10);
        let mut listeners = Listeners::default();
        let (start, stop, event) = (said.clone(), said.clone(), said);
        listeners.on_start(move |peer| start.send(format!("start {}", peer.name)).unwrap());
        listeners.on_stop(move |peer, why| stop.send(format!("stop {} {why}", peer.name)).unwrap());
        // Without the hook, whose backtrace may take longer than the end waits.
        listeners.on_event(|_| std::panic::resume_unwind(Box::new("on purpose")));
        listeners.on_event(move |told| event.send(told.name().to_owned()).unwrap());
        let events = Events::start(Role::Server, listeners).unwrap();
        events.started(&peer("a"));
        events.tell_event(added(1));
        events.stopped(&peer("a"), &"enough");
        // Also what has not been told when it ends.
        events.finish();
        assert_eq!(
            heard.try_iter().collect::<Vec<_>>(),
            ["start a", "connection_added", "stop a enough"]
        );
        events.started(&peer("late"));
    }

    #[test]
    fn a_listener_that_hangs_holds_up_nobody_and_the_queue_has_an_end() {
        let (release, held) = bounded::<()>(0);
        let (said, heard) = bounded(2 * MAX_QUEUED);
        let mut listeners = Listeners::default();
        listeners.on_event(move |told| {
            said.send(told.clone()).unwrap();
            let _ = held.recv();
        });
        let events = Events::start(Role::Server, listeners).unwrap();
        events.tell_event(added(1));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(added(1)));
        let started = Instant::now();
        for count in 2..2 * MAX_QUEUED {
            events.tell_event(added(count));
        }
        assert!(started.elapsed() < PATIENCE);
        assert_eq!(events.telling.as_ref().map(|telling| telling.queue.len()), Some(MAX_QUEUED));
        // Those that were there first are told.
        drop(release);
        for count in 2..MAX_QUEUED + 2 {
            assert_eq!(heard.recv_timeout(PATIENCE), Ok(added(count)));
        }
    }

    #[test]
    fn the_end_is_bounded() {
        let (_release, held) = bounded::<()>(0);
        let mut listeners = Listeners::default();
        listeners.on_event(move |_| {
            let _ = held.recv();
        });
        let events = Events::start(Role::Client, listeners).unwrap();
        events.tell_event(ConnectionEvent::Idle);
        let started = Instant::now();
        events.finish();
        events.finish();
        assert!(started.elapsed() < PATIENCE);
    }

    #[test]
    fn a_server_that_has_been_without_clients_for_a_minute_says_so() {
        let (said, heard) = bounded(10);
        let mut listeners = Listeners::default();
        listeners.on_event(move |told| said.send(told.clone()).unwrap());
        let a_minute_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let events = Events::with_idle(Idle::new(a_minute_ago), listeners).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(ConnectionEvent::Idle));
        events.tell_event(added(1));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(added(1)));
    }

    /// The event that says that there is a client may be in the queue still, or left out.
    #[test]
    fn a_server_with_a_client_does_not() {
        let (said, heard) = bounded(10);
        let mut listeners = Listeners::default();
        listeners.on_event(move |told| said.send(told.clone()).unwrap());
        let a_minute_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let clients = Arc::new(AtomicUsize::new(1));
        let mut teller = Teller { listeners, clients, idle: Idle::new(a_minute_ago) };
        teller.look();
        assert!(teller.idle.wait(Instant::now()) > Some(Duration::from_secs(50)));
        assert_eq!(heard.try_recv().ok(), None);
    }

    #[test]
    fn nobody_is_no_thread() {
        let events = Events::start(Role::Server, Listeners::default()).unwrap();
        assert!(events.telling.is_none());
        events.tell_event(added(1));
        events.finish();
    }
}
