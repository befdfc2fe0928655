//! One live connection to a peer: TLS, three threads, and the traffic on it.
//!
//! ```text
//! asker ---- request ---> LinkOutput (queue, TLS) ==> socket      writer thread
//!   ^                                                   ||
//!   +---- reply --- PendingRequests <--- frames <--- socket      reader thread
//! handler pool <--- ServedEvents <---------+                     heartbeat thread
//! ```
//!
//! In scope: from a connected socket to the end of the connection. Not in scope: who connects to
//! whom and when (`node`), what answers events (`handler`).

mod ask;
mod closing;
mod drain;
mod end;
mod figures;
mod health;
mod heartbeat;
mod held;
mod incoming_body;
mod outgoing_body;
mod output;
mod peer_account;
mod peer_queue;
mod pending;
mod pool;
mod reader;
mod service;
mod serving;
mod spin;
mod streams;
mod tls;
mod transport;
pub mod trial;
mod unanswered;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use ask::Asker;
use closing::{Closing, FragileMutex};
use drain::DrainState;
pub use end::LinkEnd;
pub use figures::{Figures, Traffic};
use health::Health;
pub use health::HeartbeatMode;
use output::LinkOutput;
use pending::PendingRequests;
use reader::LinkReader;
pub use service::EventService;
use serving::ServedEvents;
pub use tls::{Alert, HandshakeError, LinkTls};
use transport::Transport;
pub use unanswered::Unanswered;

use crate::event::{Event, Reply};
use crate::handler::PeerIdentity;
use crate::metrics::meter::{Outcomes, RequestOutcome};
use crate::sync::threads;
use crate::wire::{FrameLimits, encode_goodbye};

/// Stack size of a link's threads; they call no handlers.
const THREAD_STACK: usize = 256 * 1024;
/// How long a closed link waits for the peer to close before the socket is shut down.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// One live connection.
pub struct Link {
    socket: TcpStream,
    tls: Arc<FragileMutex<LinkTls>>,
    transport: Arc<Transport>,
    /// This side's requests.
    pending: Arc<PendingRequests>,
    /// The peer's requests.
    events: Arc<ServedEvents>,
    health: Health,
    drain: DrainState,
    closing: Arc<Closing>,
    service: Arc<EventService>,
    /// Called once, when the link is ready; see [`LinkParts::on_ready`].
    on_ready: Mutex<Option<OnReady>>,
}

/// Called when a link is ready. It runs on one of the link's threads and must not block.
pub type OnReady = Box<dyn FnOnce(&Arc<Link>) + Send>;

/// The parts of a new link.
pub struct LinkParts {
    /// Who the peer is.
    pub peer: Arc<PeerIdentity>,
    /// The connected socket.
    pub socket: TcpStream,
    /// TLS on that socket, after the handshake.
    pub tls: LinkTls,
    /// What answers the peer's events.
    pub service: Arc<EventService>,
    /// Whether and how often heartbeats are sent, and how long silence may last.
    pub heartbeat: HeartbeatMode,
    /// Message size limits.
    pub limits: FrameLimits,
    /// Maximum stall of a body: of one sent that the peer does not read, or of a request's that
    /// does not arrive.
    pub stall: Duration,
    /// Client only: an older link of this client is still open, and the client closes it.
    pub takes_over: bool,
    /// Called when the first message has arrived, so that the peer's extensions are known. A silent
    /// client (the original waits five seconds before its first heartbeat) is ready after one
    /// second; a server only after its first message, because until then it may still refuse us.
    pub on_ready: OnReady,
    /// Called when the peer announces that it is stopping. Must not block.
    pub on_draining: Box<dyn Fn() + Send + Sync>,
}

impl Link {
    /// A link over this connection. It is inactive until [`Link::run`].
    pub fn new(parts: LinkParts) -> io::Result<Arc<Self>> {
        let LinkParts { peer, socket, tls, service, heartbeat, limits, .. } = parts;
        let closing = Arc::new(Closing::new());
        let tls = Arc::new(FragileMutex::new(tls, Arc::clone(&closing)));
        let output = LinkOutput::new(
            socket.try_clone()?,
            Arc::clone(&tls),
            4 * limits.max_data + (1 << 20),
            Arc::clone(&closing),
        )?;
        let account = service.account(&peer.name, limits.max_data);
        let held = Arc::clone(&account.held);
        let transport =
            Arc::new(Transport::new(peer, output, held, limits, heartbeat.sends(), parts.stall));
        Ok(Arc::new(Self {
            socket,
            tls,
            pending: Arc::new(PendingRequests::new(Arc::clone(&transport), Arc::clone(&closing))),
            events: Arc::new(ServedEvents::new(
                account,
                Arc::clone(&transport),
                Arc::clone(&closing),
            )),
            transport,
            health: Health::new(heartbeat, parts.takes_over),
            drain: DrainState::new(parts.on_draining),
            closing,
            service,
            on_ready: Mutex::new(Some(parts.on_ready)),
        }))
    }

    /// Who the peer is.
    pub fn peer(&self) -> &Arc<PeerIdentity> {
        &self.transport.peer
    }

    /// Whether the peer is known to be ready.
    pub fn is_ready(&self) -> bool {
        self.health.is_ready()
    }

    /// Whether a heartbeat was answered on it. Only meaningful on the side that sends them.
    pub fn is_proved(&self) -> bool {
        self.health.round_trip().is_some()
    }

    /// Whether an older link of this client is still open and left to the client to close.
    pub fn takes_over(&self) -> bool {
        self.health.takes_over()
    }

    /// Marks the link ready; runs `on_ready` the first time.
    fn set_ready(self: &Arc<Self>) {
        if self.health.set_ready() {
            let on_ready = self.on_ready.lock().take();
            if let Some(on_ready) = on_ready {
                on_ready(self);
            }
        }
    }

    /// Runs the link until it ends, using this thread as its reader. Returns the reason.
    pub fn run(self: &Arc<Self>) -> LinkEnd {
        let (reading, reader_ended) = bounded::<()>(0);
        let (writing, writer_ended) = bounded::<()>(0);
        let writer = self.spawn("writer", move |link| {
            let _writing = writing;
            let mark_written = |id| link.pending.mark_written(id);
            let grouped = || link.transport.capabilities().extended;
            if let Err(error) = link.transport.output.write_all(mark_written, grouped) {
                link.close(LinkEnd::NotTaking(error.to_string()));
            }
        });
        let heartbeat = self.spawn("heartbeat", move |link| {
            let Self { health, transport, closing, service, .. } = &*link;
            heartbeat::run(health, transport, closing, service.meter(), || link.set_ready());
            // The link may have been closed by a caller that could not tear it down.
            link.carry_out_end();
            // If the peer does not close in time, shut the socket down; if it was silent, at once.
            if !matches!(closing.reason(), LinkEnd::Silent(_)) {
                let _ = reader_ended.recv_timeout(CLOSE_GRACE);
            }
            let _ = link.socket.shutdown(Shutdown::Both);
        });
        if writer.is_some() && heartbeat.is_some() {
            let _on_panic = self.closing.on_panic();
            self.close(self.reader(&|| self.set_ready()).run());
        }
        // The writer may still send a goodbye; keep the socket open until it has.
        let _ = writer_ended.recv_timeout(CLOSE_GRACE);
        drop(reading);
        let _ = self.socket.shutdown(Shutdown::Both);
        for thread in [writer, heartbeat].into_iter().flatten() {
            let _ = thread.join();
        }
        self.closing.reason()
    }

    fn reader<'a>(&'a self, set_ready: &'a dyn Fn()) -> LinkReader<'a> {
        LinkReader {
            socket: &self.socket,
            tls: &self.tls,
            transport: &self.transport,
            pending: &self.pending,
            events: &self.events,
            health: &self.health,
            drain: &self.drain,
            closing: &self.closing,
            service: &self.service,
            set_ready,
        }
    }

    fn spawn(
        self: &Arc<Self>,
        part: &str,
        body: impl FnOnce(Arc<Self>) + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        let link = Arc::clone(self);
        let name = format!("{part} {}", self.peer().name);
        let spawned = threads::spawn_with_stack(name, THREAD_STACK, move || {
            let _on_panic = link.closing.on_panic();
            body(Arc::clone(&link));
        });
        spawned
            .map_err(|error| self.close(LinkEnd::Failed(format!("no {part} thread: {error}"))))
            .ok()
    }

    /// Sends a request and waits for the reply, for at most `timeout` after the body is sent. Also
    /// returns the outcome as counted in the metrics.
    pub fn request(
        &self,
        event: &mut Event,
        timeout: Duration,
        is_gone: &dyn Fn() -> bool,
    ) -> (RequestOutcome, Result<Reply, Unanswered>) {
        let Self { pending, transport, service, .. } = self;
        let asker = Asker { pending, transport, uploads: &service.uploads, timeout, is_gone };
        let answer = asker.ask(event);
        let outcome = match &answer {
            Ok(reply) => RequestOutcome::of_code(reply.code),
            Err(unanswered) => unanswered.outcome(),
        };
        pending.outcomes.add(outcome);
        (outcome, answer)
    }

    /// Closes the link. The first reason is kept; every waiter is notified at once.
    pub fn close(&self, reason: LinkEnd) {
        if self.closing.begin(reason) {
            self.carry_out_end();
        }
    }

    /// Tears down requests, bodies and the output. Idempotent.
    fn carry_out_end(&self) {
        let Self { transport, pending, events, .. } = self;
        let reason = self.closing.reason();
        pending.close(&reason);
        events.close();
        transport.streams.close(&reason.to_string());
        let goodbye = reason.goodbye().filter(|_| transport.capabilities().extended);
        transport.output.close(
            goodbye
                .map(|goodbye| encode_goodbye(transport.from_client, fastrand::u32(..), &goodbye)),
        );
    }

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        self.closing.is_closed()
    }

    /// Whether requests may be sent on it: it is not closed, and its peer is not stopping.
    pub fn is_open(&self) -> bool {
        self.drain.peer_spread().is_none() && !self.is_closed()
    }

    /// Announces once that this node is stopping, if the peer supports that.
    pub fn announce_drain(&self, spread: Duration) {
        self.drain.announce(&self.transport, spread);
    }

    /// Present once the peer has announced that it is stopping: its clients reconnect after a
    /// random part of this.
    pub fn spread(&self) -> Option<Duration> {
        self.drain.peer_spread()
    }

    /// Whether no request is pending, no event is being handled, and everything is written.
    pub fn is_idle(&self) -> bool {
        self.pending.len() == 0
            && self.events.len() == 0
            && self.transport.streams.is_empty()
            && self.transport.output.is_empty()
    }

    /// Whether the link is idle and a peer that was notified of the stop can have nothing in
    /// transit.
    pub fn is_finished(&self) -> bool {
        self.drain.is_answered() && self.is_idle()
    }

    /// Number of requests awaiting a reply.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// A snapshot of the link.
    pub fn figures(&self) -> Figures {
        let Self { transport, health, .. } = self;
        Figures {
            since: health.since,
            silent: health.silent(),
            round_trip: health.round_trip(),
            last_heartbeat: health.last_heartbeat(),
            traffic: Traffic {
                in_flight: self.pending.len(),
                handling: self.events.len(),
                waiting: self.events.account.queue.waiting(),
                unsent: transport.output.waiting(),
                streams: transport.streams.len(),
                bytes_in: health.received(),
                bytes_out: transport.output.sent(),
            },
            capabilities: transport.capabilities(),
        }
    }

    /// When the link was established.
    pub fn since(&self) -> SystemTime {
        self.health.since
    }

    /// Whether the last heartbeat was answered in time. The error says in one line why not. Only
    /// meaningful on the side that sends heartbeats.
    pub fn is_well(&self) -> Result<(), String> {
        self.health.check()
    }

    /// Bytes of ciphertext received and sent.
    pub fn bytes(&self) -> (u64, u64) {
        (self.health.received(), self.transport.output.sent())
    }

    /// This side's requests on the link, by outcome.
    pub fn asked(&self) -> &Outcomes {
        &self.pending.outcomes
    }

    /// The peer's requests on the link, by outcome.
    pub fn served(&self) -> &Outcomes {
        &self.events.outcomes
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;
    use std::thread::ThreadId;

    use crossbeam_channel::Sender;

    use super::*;
    use crate::event::{Body, Source, Verb};
    use crate::handler::{Role, Router};

    const LONG: Duration = Duration::from_secs(30);

    impl Link {
        /// A link to a peer of this name on this machine, which reads everything and sends nothing.
        pub(crate) fn unconnected(name: &str) -> (Arc<Self>, TcpStream) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let peer = listener.accept().unwrap().0;
            let address = Ipv4Addr::LOCALHOST.into();
            let link = Link::new(LinkParts {
                peer: Arc::new(PeerIdentity {
                    name: name.to_owned(),
                    fingerprint: String::new(),
                    address,
                }),
                socket,
                tls: LinkTls::unconnected(),
                service: EventService::start(
                    Role::Client,
                    Arc::new(Router::new()),
                    false,
                    Arc::new(()),
                )
                .unwrap(),
                heartbeat: HeartbeatMode::Sends { interval: LONG, silence: 2 * LONG },
                limits: FrameLimits { max_data: 1 << 20 },
                stall: LONG,
                takes_over: false,
                on_ready: Box::new(|_| ()),
                on_draining: Box::new(|| ()),
            });
            (link.unwrap(), peer)
        }
    }

    fn link() -> (Arc<Link>, TcpStream) {
        Link::unconnected("peer")
    }

    #[test]
    fn a_panic_under_a_lock_of_the_link_closes_it_and_answers_who_waits() {
        let holders: [fn(&Link); 3] = [
            |link| {
                let _tls = link.tls.lock().unwrap();
                panic!("on purpose");
            },
            |link| link.transport.output.panic_under_lock(),
            |link| link.pending.panic_under_lock(),
        ];
        for hold in holders {
            let (link, _peer) = link();
            let running = Arc::clone(&link);
            let run = thread::Builder::new().name("pipe".into()).spawn(move || running.run());
            let (waiter, answer) = bounded(1);
            link.pending.register(waiter).unwrap();
            assert!(catch_unwind(AssertUnwindSafe(|| hold(&link))).is_err());
            assert!(link.is_closed(), "before anybody else gets the lock");
            let failed = LinkEnd::Failed("a panic, see above".to_owned());
            let unanswered = answer.recv_timeout(LONG).unwrap().unwrap_err();
            assert_eq!(unanswered, Unanswered::NotSent(failed.clone()));
            let mut event = Event::new(Verb::Get, "time").unwrap();
            let late = link.request(&mut event, LONG, &|| false);
            assert_eq!(late.1, Err(Unanswered::NotSent(failed.clone())));
            assert_eq!(run.unwrap().join().unwrap(), failed);
        }
    }

    /// A body that records which threads read it.
    struct Watched {
        readers: Sender<ThreadId>,
        pieces: usize,
        /// Returns nothing on the first read.
        waits: bool,
        has_timeout: bool,
    }

    impl Source for Watched {
        fn read_within(&mut self, into: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
            self.readers.send(thread::current().id()).unwrap();
            if std::mem::take(&mut self.waits) {
                return Ok(None);
            }
            let count = into.len().min(1000) * self.pieces.min(1);
            self.pieces = self.pieces.saturating_sub(1);
            Ok(Some(count))
        }

        fn has_timeout(&self) -> bool {
            self.has_timeout
        }
    }

    #[test]
    fn only_a_body_that_is_waited_for_needs_another_thread() {
        let asker = thread::current().id();
        for (verb, waits, has_timeout, own_reads) in [
            (Verb::Put, false, true, 4),
            (Verb::Put, true, true, 1),
            (Verb::Put, false, false, 0),
            (Verb::Connect, false, true, 0),
        ] {
            let (link, _peer) = link();
            link.transport.set_capabilities(crate::wire::EXTENSIONS, None);
            let (readers, read) = bounded(10);
            let mut event = Event::new(verb, "x").unwrap();
            event.body =
                Body::from_source(Watched { readers, pieces: 3, waits, has_timeout }, None);
            let answer = link.request(&mut event, Duration::from_millis(1), &|| false);
            assert_eq!(answer.1, Err(Unanswered::NoReply));
            // Ends when the source is dropped.
            let own = read.iter().filter(|reader| *reader == asker).count();
            assert_eq!(own, own_reads, "{verb:?} {waits} {has_timeout}");
        }
    }
}
