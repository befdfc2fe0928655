//! One live connection to a peer: TLS, its three threads, the requests that wait for replies.
//!
//! ```text
//! asker ---- request ---> Output (queue, line) ==> socket      writer thread
//!   ^                                                ||
//!   +---- reply --- PendingTable <----- frames <------- socket      reader thread
//! handler pool <---- events -----------+                       heartbeat thread
//! ```
//!
//! In scope: from a connected socket to its end. Not in scope: who connects to whom and when
//! (`node`), what answers events (`handler`).

mod ask;
mod body;
mod counts;
mod end;
mod heartbeat;
mod leaving;
mod output;
mod patience;
mod pool;
mod reader;
mod serve;
mod service;
mod streams;
mod tls;
pub mod trial;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};

pub use ask::LinkError;
use counts::Counts;
pub use counts::{Figures, Traffic};
pub use end::LinkEnd;
pub use heartbeat::HeartbeatMode;
use leaving::Farewell;
use output::{Output, Written};
pub use pool::Load;
use serve::Handling;
pub use service::EventService;
use service::Turns;
use streams::Streams;
pub use tls::{Alert, HandshakeError, LinkTls};

use crate::event::{Reply, Verb};
use crate::handler::PeerIdentity;
use crate::wire::{Capabilities, FrameLimits, PendingTable, encode_goodbye};

/// Most requests that wait for replies on one link.
const MAX_PENDING: usize = 4096;
/// Stack of a link's threads; they call no handler.
const STACK: usize = 256 * 1024;
/// How long a closed link waits for the peer's end before its socket is shut down.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// One live connection.
pub struct Link {
    peer: Arc<PeerIdentity>,
    socket: TcpStream,
    tls: LinkTls,
    output: Output,
    service: Arc<EventService>,
    limits: FrameLimits,
    /// Requests that wait for replies. Held for moments only.
    pending: Mutex<PendingTable<Waiter>>,
    /// The peer's events that are being handled, with the bytes of their bodies. Held for moments.
    handling: Mutex<Handling>,
    /// Bodies in pieces, both ways.
    streams: Streams,
    /// The peer's events that wait for a handler.
    turns: Turns,
    /// How long a body may stand still.
    stall: Duration,
    /// What may be said to the peer; changes when it announces something.
    capabilities: Mutex<Capabilities>,
    heartbeat: HeartbeatMode,
    /// When bytes last came, in milliseconds since `started`.
    heard_ms: AtomicU64,
    /// For how long the peer may be silent, in milliseconds.
    silence_ms: AtomicU64,
    started: Instant,
    /// Why the link ended; the first reason stays.
    end: Mutex<Option<LinkEnd>>,
    /// Wakes the heartbeat thread: the link was closed, or the silence limit changed.
    alarm: Sender<()>,
    alarmed: Receiver<()>,
    /// Called once, when the peer is known well enough to be asked; see [`LinkParts::on_ready`].
    on_ready: Mutex<Option<OnReady>>,
    ready: AtomicBool,
    /// See [`LinkParts::takes_over`]; a server's link learns it from the first heartbeat.
    takes_over: AtomicBool,
    counts: Counts,
    farewell: Farewell,
}

/// Told that a link is ready. It runs on one of the link's threads and may not wait for anything.
pub type OnReady = Box<dyn FnOnce(&Arc<Link>) + Send>;

/// What a request's asker waits on.
type Waiter = Sender<Result<Reply, Unanswered>>;

/// Why there is no reply.
enum Unanswered {
    /// The link ended before the reply came.
    Lost { written: bool, end: LinkEnd },
    /// The request's body could not be sent whole.
    Body(String),
}

/// What a new link is made of.
pub struct LinkParts {
    /// Who the peer is.
    pub peer: Arc<PeerIdentity>,
    /// The connected socket.
    pub socket: TcpStream,
    /// TLS over it, after the handshake.
    pub tls: LinkTls,
    /// What answers the peer's events.
    pub service: Arc<EventService>,
    /// Whether and how often heartbeats are sent, and how long silence may last.
    pub heartbeat: HeartbeatMode,
    /// How long messages may be.
    pub limits: FrameLimits,
    /// How long a body may stand still: one that is sent and not taken, or a request's that does not
    /// come.
    pub stall: Duration,
    /// A client's: an older link of it still stands, and it will end that by itself.
    pub takes_over: bool,
    /// Called when the first message has come, so that the peer's extensions are known. A client
    /// that says nothing (an original waits five seconds before its first heartbeat) is ready after
    /// a second; a server only when it has spoken, because before that it may still refuse us.
    pub on_ready: OnReady,
    /// Called when the peer says that it is about to stop. It may not wait for anything.
    pub on_draining: Box<dyn Fn() + Send + Sync>,
}

impl Link {
    /// A link over this connection. It does nothing before [`Link::run`].
    pub fn new(parts: LinkParts) -> io::Result<Arc<Self>> {
        let LinkParts { peer, socket, tls, service, heartbeat, limits, stall, takes_over, .. } =
            parts;
        let LinkParts { on_ready, on_draining, .. } = parts;
        let output = Output::new(socket.try_clone()?, 4 * limits.max_data + (1 << 20))?;
        let (alarm, alarmed) = bounded(1);
        Ok(Arc::new(Self {
            peer,
            socket,
            tls,
            output,
            service,
            limits,
            pending: Mutex::new(PendingTable::new(MAX_PENDING)),
            handling: Mutex::default(),
            streams: Streams::default(),
            turns: Turns::default(),
            stall,
            capabilities: Mutex::new(Capabilities::original(limits.max_data)),
            heartbeat,
            heard_ms: AtomicU64::new(0),
            silence_ms: AtomicU64::new(millis(heartbeat.silence())),
            started: Instant::now(),
            end: Mutex::new(None),
            alarm,
            alarmed,
            on_ready: Mutex::new(Some(on_ready)),
            ready: AtomicBool::new(false),
            takes_over: AtomicBool::new(takes_over),
            counts: Counts::default(),
            farewell: Farewell::new(on_draining),
        }))
    }

    /// Who the peer is.
    pub fn peer(&self) -> &Arc<PeerIdentity> {
        &self.peer
    }

    /// Whether the peer has been found ready.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether the client's older link still stands and is ended by the client.
    pub fn takes_over(&self) -> bool {
        self.takes_over.load(Ordering::Relaxed)
    }

    /// Notes that the peer is ready, the first time.
    fn set_ready(self: &Arc<Self>) {
        if !self.ready.swap(true, Ordering::AcqRel)
            && let Some(on_ready) = lock(&self.on_ready).take()
        {
            on_ready(self);
        }
    }

    /// Runs the link on this thread, which becomes its reader, until it ends. Returns why.
    pub fn run(self: &Arc<Self>) -> LinkEnd {
        let (reading, reader_ended) = bounded::<()>(0);
        let (writing, writer_ended) = bounded::<()>(0);
        let writer = self.spawn("writer", move |link| {
            let _writing = writing;
            let grouped = || link.capabilities().extended;
            if let Err(error) = link.output.write_all(&link.tls, link.as_ref(), grouped) {
                link.close(LinkEnd::NotTaking(error.to_string()));
            }
        });
        let heartbeat = self.spawn("heartbeat", move |link| {
            heartbeat::run(&link);
            // Closed. A peer that does not end its side in time loses the socket, one that was silent
            // until now at once.
            if !matches!(link.end(), LinkEnd::Silent(_)) {
                let _ = reader_ended.recv_timeout(CLOSE_GRACE);
            }
            let _ = link.socket.shutdown(Shutdown::Both);
        });
        if writer.is_some() && heartbeat.is_some() {
            let _guard = CloseOnPanic(self);
            self.close(reader::run(self));
        }
        // The writer still says goodbye, if the peer takes it; the socket has to live until then.
        let _ = writer_ended.recv_timeout(CLOSE_GRACE);
        drop(reading);
        let _ = self.socket.shutdown(Shutdown::Both);
        for thread in [writer, heartbeat].into_iter().flatten() {
            let _ = thread.join();
        }
        lock(&self.end).clone().unwrap_or(LinkEnd::ClosedByPeer)
    }

    fn spawn(
        self: &Arc<Self>,
        part: &str,
        body: impl FnOnce(Arc<Self>) + Send + 'static,
    ) -> Option<thread::JoinHandle<()>> {
        let link = Arc::clone(self);
        let name = format!("{part} {}", self.peer.name);
        let spawned = thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            let _guard = CloseOnPanic(&link);
            body(Arc::clone(&link));
        });
        spawned
            .map_err(|error| self.close(LinkEnd::Failed(format!("no {part} thread: {error}"))))
            .ok()
    }

    /// Ends the link. The first reason stays; every waiter is told at once.
    pub fn close(&self, reason: LinkEnd) {
        {
            let mut end = lock(&self.end);
            if end.is_some() {
                return;
            }
            *end = Some(reason.clone());
        }
        for (waiter, written) in lock(&self.pending).close() {
            // An asker that has given up at this moment is gone.
            let _ = waiter.try_send(Err(Unanswered::Lost { written, end: reason.clone() }));
        }
        lock(&self.handling).cancel_all();
        self.turns.close();
        self.streams.close(&reason.to_string());
        let from_client = matches!(self.heartbeat, HeartbeatMode::Sends { .. });
        let goodbye = reason.goodbye().filter(|_| self.capabilities().extended);
        self.output
            .close(goodbye.map(|goodbye| encode_goodbye(from_client, fastrand::u32(..), &goodbye)));
        let _ = self.alarm.try_send(());
    }

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        lock(&self.end).is_some()
    }

    /// Whether no request waits, no event is being handled, and all is written.
    pub fn is_idle(&self) -> bool {
        lock(&self.pending).is_empty()
            && lock(&self.handling).is_empty()
            && self.streams.is_empty()
            && self.output.is_empty()
    }

    /// How many requests wait for their replies.
    pub fn in_flight(&self) -> usize {
        lock(&self.pending).len()
    }

    fn end(&self) -> LinkEnd {
        lock(&self.end).clone().unwrap_or(LinkEnd::ClosedByPeer)
    }

    fn capabilities(&self) -> Capabilities {
        *lock(&self.capabilities)
    }

    /// Nobody waits for this reply any more. False when it was taken already.
    fn forget(&self, id: u32) -> bool {
        let taken = lock(&self.pending).take(id).is_some();
        self.settle();
        taken
    }

    /// For how long a body that goes with an event of this verb may stand still; one that carries a
    /// connection may for ever.
    fn stall(&self, verb: Verb) -> Option<Duration> {
        (verb != Verb::Connect).then_some(self.stall)
    }

    fn since_start_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

impl Written for Link {
    fn written(&self, request: u32) -> bool {
        lock(&self.pending).mark_written(request)
    }
}

/// Closes a link when its thread panics: a defect costs one connection, not the process.
struct CloseOnPanic<'a>(&'a Link);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close(LinkEnd::Failed("a panic, see above".to_owned()));
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Locks, also where another thread has panicked while it held the lock: what these locks guard is
/// whole between any two statements, and the panic has closed its link.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
