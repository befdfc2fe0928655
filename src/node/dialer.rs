//! The dialling thread: keeps one pipe to the server, and a new one beside it while a new
//! certificate takes the place of the old.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustls::pki_types::ServerName;

use super::catalog::{Added, Catalog};
use super::requests::SERVER;
use super::roster::{Entered, Entry, Roster};
use crate::dial::{self, Backoff, Resolver};
use crate::events::{ConnectionEvent, Events};
use crate::identity::{Keeper, PeerCertificate};
use crate::link::{Alert, End, HandshakeError, Link, Parts, Pulse, Service, Tls};
use crate::meter::{Mark, Meter};
use crate::peer::{PeerIdentity, Role};
use crate::wire::{GoodbyeReason, Limits};

/// The time for finding the server's address, for each attempt to connect, and for the handshake.
const STEP: Duration = Duration::from_secs(10);
/// A link that lived this long was well; the next loss starts with short waits again. Longer than
/// any wait: of two machines with one certificate, each lives for as long as the other waits, and
/// neither may take that for a reason to come back faster.
const WELL: Duration = Duration::from_secs(60);
const _: () = assert!(WELL.as_secs() > dial::LONGEST.as_secs());
/// Where another machine has this one's key, it is left alone for this long, and up to
/// [`RIVAL_JITTER`] more.
const RIVAL: Duration = Duration::from_secs(30);
/// See [`RIVAL`].
const RIVAL_JITTER: Duration = Duration::from_secs(10);
/// A link that another relieves stays this long at least, for those who were about to ask by it.
const LINGER: Duration = Duration::from_secs(1);
/// How often it is looked whether it has finished.
const LOOK: Duration = Duration::from_millis(100);
/// With nothing to do the thread waits this long; only news end that.
const IDLE: Duration = Duration::from_secs(3600);
/// Stack of a pipe's thread.
const STACK: usize = 512 * 1024;
/// News that may wait for the dialling thread.
pub(super) const QUEUE: usize = 64;

/// What the dialling thread is told.
pub(super) enum News {
    /// A link has become ready.
    Ready,
    /// A link has ended.
    Ended(Arc<Link>, End),
    /// This node shows another certificate from now on.
    NewCertificate,
    /// Nothing is in flight any more: close what is left.
    Stop,
}

/// Dials, for as long as the client runs.
pub(super) struct Dialer {
    pub identity: Arc<Keeper>,
    pub roster: Arc<Roster>,
    pub host: String,
    pub port: u16,
    pub server_name: String,
    pub pulse: Pulse,
    pub limits: Limits,
    pub stall: Duration,
    /// How long a relieved link may still wait for replies.
    pub reply_timeout: Duration,
    pub service: Arc<Service>,
    pub catalog: Arc<Catalog>,
    pub resolver: Arc<Resolver>,
    pub events: Arc<Events>,
    pub meter: Arc<dyn Meter>,
    pub news: Sender<News>,
    /// Nothing is dialled from when this is set.
    pub stopping: AtomicBool,
}

/// One link, and how far it is.
struct Pipe {
    link: Arc<Link>,
    address: SocketAddr,
    started: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server has not spoken: it may still refuse this client.
    Coming,
    /// The one that is asked by.
    Current,
    /// Another has its place since then.
    Relieved(Instant),
}

/// What the dialling thread knows.
struct Desk<'a> {
    dialer: &'a Arc<Dialer>,
    target: String,
    pipes: Vec<Pipe>,
    backoff: Backoff,
    /// When to dial next, if that is to be done.
    due: Option<Instant>,
    /// Counts the attempts.
    number: u64,
    /// How many have failed since the server was connected last.
    failed: u64,
    /// When that connection was lost.
    lost_at: Option<SystemTime>,
}

impl Dialer {
    /// The thread. It ends after [`News::Stop`], when every link has.
    pub fn run(self: &Arc<Self>, news: &Receiver<News>) {
        let mut desk = Desk {
            dialer: self,
            target: format!("{}:{}", self.host, self.port),
            pipes: Vec::new(),
            backoff: Backoff::default(),
            due: Some(Instant::now()),
            number: 0,
            failed: 0,
            lost_at: None,
        };
        let mut stopped = false;
        while !(stopped && desk.pipes.is_empty()) {
            desk.dial_if_due();
            desk.advance();
            match news.recv_timeout(desk.wait()) {
                Ok(News::Ready) | Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Ended(link, end)) => desk.note_end(&link, &end),
                Ok(News::NewCertificate) => desk.due = Some(Instant::now()),
                Ok(News::Stop) => {
                    stopped = true;
                    desk.pipes.iter().for_each(|pipe| pipe.link.close(End::Stopping));
                }
                // Not before the last link has ended: the dialler itself holds a sender.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Desk<'_> {
    fn dial_if_due(&mut self) {
        if self.dialer.stopping.load(Ordering::Acquire) {
            self.due = None;
        }
        if self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = None;
        self.number += 1;
        self.dialer.meter.mark(Mark::Dialling);
        let takes_over = !self.pipes.is_empty();
        match self.dialer.dial(self.number, takes_over) {
            Ok((link, address)) => self.pipes.push(Pipe {
                link,
                address,
                started: Instant::now(),
                stage: Stage::Coming,
            }),
            Err(reason) => {
                log::warn!("{}: not connected: {reason}", self.target);
                self.tell_failure(reason);
                self.dial_later(Duration::ZERO);
            }
        }
    }

    /// Gives a link that has become ready its place, and ends those that were relieved.
    fn advance(&mut self) {
        let now = Instant::now();
        let ready = |pipe: &Pipe| pipe.stage == Stage::Coming && pipe.link.is_ready();
        if let Some(newest) = self.pipes.iter().rposition(ready) {
            for (at, pipe) in self.pipes.iter_mut().enumerate() {
                if at == newest {
                    pipe.stage = Stage::Current;
                    self.failed = 0;
                } else if pipe.stage == Stage::Current {
                    pipe.stage = Stage::Relieved(now);
                }
            }
        }
        for pipe in &self.pipes {
            if let Stage::Relieved(since) = pipe.stage {
                let age = now.duration_since(since);
                let has_finished = age >= LINGER && pipe.link.is_idle();
                if has_finished || age >= LINGER + self.dialer.reply_timeout {
                    pipe.link.close(End::Relieved);
                }
            }
        }
    }

    fn wait(&self) -> Duration {
        let is_relieved = |pipe: &Pipe| matches!(pipe.stage, Stage::Relieved(_));
        let longest = if self.pipes.iter().any(is_relieved) { LOOK } else { IDLE };
        let due = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        due.map_or(longest, |due| due.min(longest))
    }

    fn note_end(&mut self, link: &Arc<Link>, end: &End) {
        let Some(at) = self.pipes.iter().position(|pipe| Arc::ptr_eq(&pipe.link, link)) else {
            return;
        };
        let pipe = self.pipes.remove(at);
        let target = &self.target;
        let was_relieved = matches!(pipe.stage, Stage::Relieved(_));
        if link.is_ready() {
            log::info!("{target}: lost: {end}");
            if !was_relieved && !matches!(end, End::Stopping) {
                self.failed = 0;
                self.lost_at = Some(SystemTime::now());
                self.dialer.meter.mark(Mark::Lost);
            }
            if pipe.started.elapsed() >= WELL {
                self.backoff.reset();
            }
        } else {
            let reason = match end {
                End::Stopping => None,
                // The server judges our certificate when for us the handshake is over.
                End::Refused(alert) => {
                    Some(format!("not connected: {}", refused_by(pipe.address, *alert)))
                }
                End::Protocol(_) | End::Silent(_) | End::Failed(_) => {
                    Some(format!("not connected: {end}"))
                }
                _ => Some(format!("the server did not accept this client: {end}")),
            };
            if let Some(reason) = reason {
                log::warn!("{target}: {reason}");
                self.tell_failure(reason);
            }
        }
        if self.dialer.stopping.load(Ordering::Acquire) {
            return;
        }
        let is_needed = !self.pipes.iter().any(|pipe| !matches!(pipe.stage, Stage::Relieved(_)));
        let was_refused = pipe.stage == Stage::Coming && !link.is_ready();
        if !was_relieved && (is_needed || was_refused) {
            let is_rival =
                matches!(end, End::Dismissed(goodbye) if goodbye.reason == GoodbyeReason::Rival);
            self.dial_later(if is_rival { RIVAL } else { Duration::ZERO });
        }
    }

    /// An attempt has failed. That is no event while another connection stands: a new certificate was
    /// to be shown, and that is tried again.
    fn tell_failure(&mut self, reason: String) {
        let is_connected =
            self.pipes.iter().any(|pipe| pipe.link.is_ready() && !pipe.link.is_closed());
        if !is_connected {
            self.failed += 1;
            let (attempts, lost_at) = (self.failed, self.lost_at);
            let event = ConnectionEvent::ConnectFail { attempts, lost_at, reason };
            self.dialer.events.tell_event(event);
        }
    }

    /// Dials again after a random wait, and at least this one.
    fn dial_later(&mut self, least: Duration) {
        let mut wait = self.backoff.next_wait(fastrand::f64());
        if !least.is_zero() {
            wait = least + RIVAL_JITTER.mul_f64(fastrand::f64());
            log::warn!(
                "{}: another machine uses this client's key; staying away for {:.0} s",
                self.target,
                wait.as_secs_f64()
            );
        }
        log::debug!("{}: dialling again in {:.1} s", self.target, wait.as_secs_f64());
        self.due = Some(Instant::now() + wait);
    }
}

impl Dialer {
    /// Connects, shakes hands, and runs the link on a thread of its own.
    fn dial(
        self: &Arc<Self>,
        number: u64,
        takes_over: bool,
    ) -> Result<(Arc<Link>, SocketAddr), String> {
        let began = Instant::now();
        let name = ServerName::try_from(self.server_name.clone())
            .map_err(|_| format!("{:?} is no name a certificate can have", self.server_name))?;
        let socket = self.connect()?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let address = socket.peer_addr().map_err(|error| error.to_string())?;
        let deadline = Instant::now() + STEP;
        let (judged_by, identity) = self.identity.numbered();
        let (config, witness) = identity.client_handshake();
        let (tls, chain) =
            Tls::connect(config, name, &socket, deadline).map_err(|error| {
                match (error, witness.seen()) {
                    (HandshakeError::Certificate(_), Some(seen)) => {
                        format!("the server at {address} is refused: {seen}")
                    }
                    (HandshakeError::Refused(alert), _) => refused_by(address, alert),
                    (HandshakeError::NoTls13, _) => {
                        format!("the server at {address} is refused: {}", HandshakeError::NoTls13)
                    }
                    (error, _) => error.to_string(),
                }
            })?;
        let certificate = chain
            .first()
            .ok_or_else(|| format!("the server at {address} sent no certificate"))
            .and_then(|leaf| {
                PeerCertificate::read(leaf, Role::Server)
                    .map_err(|fault| format!("the server at {address} is refused: {fault}"))
            })?;
        let peer = PeerIdentity {
            name: certificate.name.clone(),
            fingerprint: certificate.fingerprint.clone(),
            address: address.ip().to_canonical(),
        };
        let dialer = Arc::clone(self);
        let link = Link::new(Parts {
            peer: Arc::new(peer),
            socket,
            tls,
            service: Arc::clone(&self.service),
            pulse: self.pulse,
            limits: self.limits,
            stall: self.stall,
            takes_over,
            on_ready: Box::new(move |link| dialer.note_ready(link, address, number, began)),
        })
        .map_err(|error| error.to_string())?;
        let entry = Entry::new(Arc::clone(&link), certificate, chain, judged_by);
        self.launch(Arc::clone(&link), self.roster.enter(entry))?;
        Ok((link, address))
    }

    fn launch(self: &Arc<Self>, link: Arc<Link>, entered: Entered) -> Result<(), String> {
        let dialer = Arc::clone(self);
        let spawned =
            thread::Builder::new().name("pipe".to_owned()).stack_size(STACK).spawn(move || {
                let end = link.run();
                dialer.catalog.remove(SERVER, &link, |_| ());
                if link.is_ready() {
                    dialer.events.stopped(link.peer(), &end);
                }
                drop(entered);
                // Full: the dialling thread takes it when it is done connecting. Disconnected: it
                // has ended.
                let _ = dialer.news.send(News::Ended(link, end));
            });
        spawned.map(drop).map_err(|error| format!("no thread for it: {error}"))
    }

    fn note_ready(&self, link: &Arc<Link>, address: SocketAddr, number: u64, began: Instant) {
        let peer = link.peer();
        log::info!("{}: connected to {address}", peer.name);
        self.meter.mark(Mark::Connected { took: began.elapsed() });
        self.events.started(peer);
        let added = self.catalog.add(SERVER, link, number, |added, _| {
            if matches!(added, Added::First | Added::InPlaceOf(..)) {
                let peer = Arc::clone(peer);
                self.events.tell_event(ConnectionEvent::ConnectSuccess { peer });
            }
        });
        match added {
            Added::First => {}
            Added::InPlaceOf(old, older) => {
                for old in std::iter::once(old).chain(older) {
                    old.close(End::Relieved);
                }
            }
            // The one before that is ended by the dialling thread.
            Added::Relieving(older) => older.iter().for_each(|older| older.close(End::Relieved)),
            Added::TooLate => link.close(End::Relieved),
        }
        // Full: the thread is about to look anyway.
        let _ = self.news.try_send(News::Ready);
    }

    /// Tries the server's addresses one after another.
    fn connect(&self) -> Result<TcpStream, String> {
        let addresses = self
            .resolver
            .resolve(&self.host, STEP)
            .map_err(|error| format!("the name does not resolve: {error}"))?;
        let mut reasons = Vec::new();
        for ip in addresses {
            let address = SocketAddr::new(ip, self.port);
            match TcpStream::connect_timeout(&address, STEP) {
                Ok(socket) => return Ok(socket),
                Err(error) => reasons.push(format!("{address}: {error}")),
            }
        }
        Err(reasons.join("; "))
    }
}

/// The server has found a fault with us, and only it knows which.
fn refused_by(address: SocketAddr, alert: Alert) -> String {
    if alert.is_about_certificate() {
        format!(
            "the server at {address} refused this client's certificate ({alert}): see the server's log"
        )
    } else {
        format!("the server at {address} ended the TLS handshake ({alert}): see the server's log")
    }
}
