//! The server's connections, each on its own thread from handshake to end.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use socket2::Socket;

use crate::handler::{PeerIdentity, Role};
use crate::identity::PeerCertificate;
use crate::lifecycle::ConnectionEvent;
use crate::link::{HeartbeatMode, Link, LinkEnd, LinkParts, LinkTls, trial};
use crate::net::accept::strangers::{
    CROWDED, DISPLACED, FIRST_BYTE, GONE, SourceAddress, Stranger, Strangers, has_gone,
};
use crate::net::reset::set_reset_on_close;
use crate::node::core::Core;
use crate::node::feed::Happening;
use crate::node::link_registry::{Entry, LinkRegistration};
use crate::node::peer_table::Added;
use crate::node::server::duplicate_keys::{DuplicateKeys, Takeover};
use crate::node::server::refused::{CERTIFICATE, Refused};
use crate::sync::line_budget::LineBudget;
use crate::sync::permits::Permits;
use crate::sync::threads;
use crate::sync::throttle::Throttles;

/// Time limit for the TLS handshake, which authenticates the client.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum unauthenticated connections. A handshake takes about a millisecond of one core, so this
/// is half a second of work; each has a thread, about 50 kB of memory.
const MAX_HANDSHAKES: usize = 512;
/// Stack size of a connection's thread.
const STACK_BYTES: usize = 512 * 1024;
/// How long a client that announces no limit may be silent, as in the original.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// State shared by all connections of the server.
pub(super) struct Connections {
    core: Arc<Core>,
    duplicate_keys: DuplicateKeys,
    /// Connections not authenticated yet.
    strangers: Arc<Strangers<TcpStream>>,
    /// Permits for connections with a thread.
    open: Arc<Permits>,
    /// Number of authenticated connections so far.
    number: AtomicU64,
    /// Limits log lines about connections that are not authenticated.
    refusals: Arc<LineBudget>,
    /// Rate-limits log lines about duplicate keys.
    shared_keys: Throttles,
}

impl Connections {
    /// No connections yet.
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            duplicate_keys: DuplicateKeys::default(),
            strangers: Strangers::new(MAX_HANDSHAKES, HANDSHAKE_TIMEOUT),
            open: Permits::unbounded(),
            number: AtomicU64::new(0),
            refusals: LineBudget::new("pipe port"),
            shared_keys: Throttles::default(),
        }
    }

    /// How often a machine has replaced another with the same key.
    pub fn duplicate_identity_takeovers(&self) -> u64 {
        self.duplicate_keys.found()
    }

    /// Starts a connection's thread, which also performs the handshake, since that may be slow.
    pub fn admit(self: &Arc<Self>, socket: Socket) {
        // Without a peer address the connection has ended already.
        let address = socket.peer_addr().ok().and_then(|address| address.as_socket());
        // An IPv4 address on a socket of IPv6 is that of the client all the same.
        let canonical =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let Some(address) = address.map(canonical) else { return };
        if has_gone(&socket) {
            return self.refuse(address, &Refused::of_many(GONE));
        }
        let socket = Arc::new(TcpStream::from(socket));
        let origin = SourceAddress::from(address.ip());
        let Some(stranger) = self.strangers.admit(origin, &socket, Instant::now()) else {
            set_reset_on_close(&socket, true);
            return self.refuse(address, &Refused::of_many(CROWDED));
        };
        let connections = Arc::clone(self);
        let spawned = threads::spawn_with_stack("pipe", STACK_BYTES, move || {
            let _open = connections.open.take();
            connections.serve(socket, address, stranger);
        });
        if let Err(error) = spawned {
            let why = format!("refused: no thread for it: {error}");
            self.refuse(address, &Refused::new("no thread", why));
        }
    }

    /// Handles a connection from handshake to end, on its own thread.
    fn serve(
        self: &Arc<Self>,
        socket: Arc<TcpStream>,
        address: SocketAddr,
        stranger: Stranger<TcpStream>,
    ) {
        match self.welcome(socket, address, stranger) {
            // It was a trial.
            Ok(None) => {}
            Ok(Some((link, number, registration))) => {
                let end = link.run();
                drop(registration);
                let peer = link.peer();
                self.core.peers.remove(&peer.name, &link, |count| {
                    let peer = Arc::clone(peer);
                    self.core.events.report(ConnectionEvent::ConnectionRemoved { peer, count });
                });
                self.core.announce_end(&link, &end);
                log::info!("{}: lost ({address}): {end}", link.peer().name);
                log::debug!("{}: connection number {number} ended", link.peer().name);
            }
            Err(refused) => self.refuse(address, &refused),
        }
    }

    /// Performs the handshake and creates the link; `None` for a trial connection.
    fn welcome(
        self: &Arc<Self>,
        socket: Arc<TcpStream>,
        address: SocketAddr,
        stranger: Stranger<TcpStream>,
    ) -> Result<Option<(Arc<Link>, u64, LinkRegistration)>, Refused> {
        let met = self.meet(&socket, address, &stranger);
        // Any other error is a consequence of the displacement.
        if stranger.is_displaced() {
            return Err(Refused::of_many(DISPLACED));
        }
        let Some(met) = met? else { return Ok(None) };
        let socket = stranger.leave().then(|| Arc::into_inner(socket)).flatten();
        let socket = socket.ok_or_else(|| Refused::of_many(DISPLACED))?;
        let joined = self.join(socket, address, met);
        let (link, number, registration) = joined.map_err(|error| Refused::broken(&error))?;
        Ok(Some((link, number, registration)))
    }

    /// Performs the handshake. `None` after a trial, which is complete then.
    fn meet(
        &self,
        socket: &TcpStream,
        address: SocketAddr,
        stranger: &Stranger<TcpStream>,
    ) -> Result<Option<Met>, Refused> {
        socket.set_nodelay(true).map_err(|error| Refused::broken(&error))?;
        if !stranger.wait_first_byte(socket).map_err(|error| Refused::broken(&error))? {
            let why = format!("refused: it sent nothing within {FIRST_BYTE:?}");
            return Err(Refused::new("silent", why));
        }
        let deadline = stranger.until;
        let (judged_by, identity) = self.core.identity.numbered();
        let (config, presented) = identity.server_handshake();
        let (tls, chain) = LinkTls::accept(config, socket, deadline)
            .map_err(|error| Refused::by_handshake(error, presented.summary()))?;
        let unusable = |why| Refused::new(CERTIFICATE, format!("refused: {why}"));
        let leaf = chain.first().ok_or_else(|| unusable("it sent no certificate".to_owned()))?;
        let certificate = PeerCertificate::read(leaf, Role::Client)
            .map_err(|fault| unusable(format!("its certificate cannot be used: {fault}")))?;
        if tls.is_trial() {
            let name = &certificate.name;
            return trial::answer(tls, socket, self.core.limits.max_data, deadline)
                .map(|()| log::info!("{name}: trial connection from {address}"))
                .map(|()| None)
                .map_err(|end| {
                    Refused::new("trial", format!("a trial of {name} was not finished: {end}"))
                });
        }
        Ok(Some(Met { tls, chain, certificate, judged_by }))
    }

    /// Creates the link of an authenticated client.
    fn join(
        self: &Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        met: Met,
    ) -> io::Result<(Arc<Link>, u64, LinkRegistration)> {
        let Met { tls, chain, certificate, judged_by } = met;
        let peer = PeerIdentity {
            name: certificate.name.clone(),
            fingerprint: certificate.fingerprint.clone(),
            address: address.ip().to_canonical(),
        };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let connections = Arc::clone(self);
        let link = Link::new(LinkParts {
            peer: Arc::new(peer),
            socket,
            tls,
            service: Arc::clone(&self.core.service),
            heartbeat: HeartbeatMode::Answers { silence: DEFAULT_IDLE_TIMEOUT },
            limits: self.core.limits,
            stall: self.core.reply_timeout,
            takes_over: false,
            on_draining: Box::new(|| ()),
            on_ready: Box::new(move |link| connections.note_ready(link, address, number)),
        })?;
        let entry = Entry::new(Arc::clone(&link), certificate, chain, judged_by);
        let registration = self.core.registry.register(entry);
        Ok((link, number, registration))
    }

    /// Adds a link to the peer table, and closes the one that it replaces.
    fn note_ready(&self, link: &Arc<Link>, address: SocketAddr, number: u64) {
        let peer = link.peer();
        self.core.announce_ready(link, &format!("from {address}"));
        let added =
            self.core.peers.add(&peer.name, link, number, link.takes_over(), |added, count| {
                self.report_added(peer, added, count);
            });
        let (place, gone) = match added {
            Added::First => ("", Vec::new()),
            Added::Superseding(older) => {
                (", beside an older connection that its client ends", older.into_iter().collect())
            }
            Added::InPlaceOf(old, older) => {
                (", in place of an older connection", std::iter::once(old).chain(older).collect())
            }
            Added::TooLate => {
                link.close(LinkEnd::Replaced("elsewhere".to_owned()));
                return;
            }
        };
        log::info!("{}: connected from {address}{place}", peer.name);
        let Some(replaced) = gone.first() else { return };
        let old = replaced.peer().address;
        let takeover = match link.takes_over() {
            true => Takeover::Usual,
            false => self.duplicate_keys.note(&peer.name, Instant::now()),
        };
        self.warn_of(takeover, &peer.name, old, peer.address);
        let why = match takeover {
            Takeover::DuplicateIdentity => "two machines seem to share this key",
            Takeover::Usual => "in place of an older connection",
        };
        self.core.feed.publish(Happening::Takeover, Some(peer), &format!("{why}, from {old}"));
        for gone in gone {
            gone.close(match takeover {
                Takeover::DuplicateIdentity => LinkEnd::DuplicateIdentity(address.to_string()),
                Takeover::Usual => LinkEnd::Replaced(address.to_string()),
            });
        }
    }

    /// Reports a reconnecting client as removed and added, unless it only renews its connection.
    fn report_added(&self, peer: &Arc<PeerIdentity>, added: &Added, count: usize) {
        match added {
            Added::First => {}
            Added::InPlaceOf(old, _) => {
                let (peer, count) = (Arc::clone(old.peer()), count.saturating_sub(1));
                self.core.events.report(ConnectionEvent::ConnectionRemoved { peer, count });
            }
            Added::Superseding(_) | Added::TooLate => return,
        }
        let peer = Arc::clone(peer);
        self.core.events.report(ConnectionEvent::ConnectionAdded { peer, count });
    }

    fn warn_of(&self, takeover: Takeover, name: &str, old: IpAddr, new: IpAddr) {
        if takeover == Takeover::Usual || self.shared_keys.allow(name).is_none() {
            return;
        }
        let found = self.duplicate_keys.found();
        if old == new {
            log::warn!(
                "{name}: two machines use the key of this name, or its line breaks again and again: \
                 connections from {new} replace each other ({found} such takeovers so far); is its \
                 certificate in use on more than one machine? give each an identity of its own"
            );
        } else {
            log::warn!(
                "{name}: two machines use the key of this name, {old} and {new}, and each replaces \
                 the other ({found} such takeovers so far); give each an identity of its own"
            );
        }
    }

    /// Reports a refused connection. All are counted; those beyond the budget of log lines are not
    /// published to listeners either, who could not keep up.
    fn refuse(&self, address: SocketAddr, refused: &Refused) {
        let (who, Refused { cause, why }) = (address.to_string(), refused);
        if self.refusals.warn(cause, &who, why) {
            self.core.feed.publish_unauthenticated(Happening::Refusal, &who, why);
        } else {
            self.core.feed.count_only(Happening::Refusal);
        }
    }

    /// Waits until all connections have ended, or the deadline.
    pub fn wait_closed(&self, deadline: Instant) {
        self.open.wait_empty(deadline);
        self.refusals.finish();
    }
}

/// A client after its handshake.
struct Met {
    tls: LinkTls,
    chain: Vec<CertificateDer<'static>>,
    certificate: PeerCertificate,
    /// The number of the identity that judged the certificate.
    judged_by: u64,
}
