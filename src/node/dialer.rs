//! The dialling thread: keeps one pipe to the first server of its list that works, and a new one beside
//! it while a new certificate takes the place of the old or an earlier server is well again.

mod dial_loop;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustls::pki_types::{CertificateDer, ServerName};

use super::core::Core;
use super::link_registry::{Entry, LinkRegistration};
use super::peer_table::Added;
use crate::config::ServerTarget;
use crate::event::peer::{PeerIdentity, Role};
use crate::identity::{PeerCertificate, PresentedCertificate};
use crate::lifecycle::ConnectionEvent;
use crate::link::{Alert, HandshakeError, HeartbeatMode, Link, LinkEnd, LinkParts, LinkTls};
use crate::metrics::meter::Mark;
use crate::net::dial;
use crate::sync::threads;

/// The time for connecting, with all addresses and the proxy, and for the handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Stack of a pipe's thread.
const STACK_BYTES: usize = 512 * 1024;
/// Most messages that wait for the dialling thread.
pub(super) const MAX_QUEUED_NEWS: usize = 64;

/// Messages to the dialling thread.
pub(super) enum News {
    /// A link has become ready, or its server is about to stop.
    Ready,
    /// An earlier server was tried.
    Tried(Result<Dialled, String>),
    /// A link has ended.
    Ended(Arc<Link>, LinkEnd),
    /// This node shows another certificate from now on.
    NewCertificate,
    /// Nothing is in flight: close what is left.
    Stop,
}

/// A connection that was made, to the server of this place in the list.
pub(super) struct Dialled {
    pub target: usize,
    pub link: Arc<Link>,
    /// Where it leads, for messages.
    pub place: String,
}

/// How a connection is meant.
#[derive(Clone, Copy)]
struct Purpose {
    /// Its number, where it is to be asked by from when it is ready; a trial has none.
    number: Option<u64>,
    /// Another to the same server is ended by this client.
    takes_over: bool,
}

/// Dials, for as long as the client runs.
pub(super) struct Dialer {
    pub core: Arc<Core>,
    /// The servers, in the order of preference.
    pub targets: Vec<ServerTarget>,
    /// What the peer table calls whichever of them is connected.
    pub key: String,
    pub heartbeat: HeartbeatMode,
    pub news: Sender<News>,
    /// Nothing is dialled from when this is set.
    pub stopping: AtomicBool,
}

impl Dialer {
    /// Connects to a server, shakes hands, and runs the link on a thread of its own.
    fn dial(
        self: &Arc<Self>,
        at: usize,
        Purpose { number, takes_over }: Purpose,
    ) -> Result<Dialled, String> {
        let began = Instant::now();
        let target = &self.targets[at];
        let ServerTarget { host, port, server_name, proxy } = target;
        let name = ServerName::try_from(server_name.clone())
            .map_err(|_| format!("{server_name:?} is no name a certificate can have"))?;
        let deadline = began + STEP_TIMEOUT;
        let socket = match proxy {
            Some(proxy) => proxy.connect(&self.core.resolver, host, *port, deadline),
            None => dial::connect(&self.core.resolver, host, *port, deadline),
        }?;
        let address = socket.peer_addr().map_err(|error| error.to_string())?;
        let place = match proxy {
            Some(_) => target.to_string(),
            None => address.to_string(),
        };
        let deadline = Instant::now() + STEP_TIMEOUT;
        let (judged_by, identity) = self.core.identity.numbered();
        let (config, presented) = identity.client_handshake();
        let (tls, chain) = LinkTls::connect(config, name, &socket, deadline)
            .map_err(|error| not_shaken(&place, error, &presented))?;
        let certificate = server_certificate(&place, &chain)?;
        let peer = PeerIdentity {
            name: certificate.name.clone(),
            fingerprint: certificate.fingerprint.clone(),
            address: address.ip().to_canonical(),
        };
        let (dialer, to, news) = (Arc::clone(self), place.clone(), self.news.clone());
        let link = Link::new(LinkParts {
            peer: Arc::new(peer),
            socket,
            tls,
            service: Arc::clone(&self.core.service),
            heartbeat: self.heartbeat,
            limits: self.core.limits,
            stall: self.core.reply_timeout,
            takes_over,
            on_ready: Box::new(move |link| dialer.note_ready(link, &to, number, began)),
            on_draining: Box::new(move || {
                // Full: the thread is about to look anyway.
                let _ = news.try_send(News::Ready);
            }),
        })
        .map_err(|error| error.to_string())?;
        let entry = Entry::new(Arc::clone(&link), certificate, chain, judged_by).to(target);
        self.launch(Arc::clone(&link), self.core.registry.register(entry))?;
        Ok(Dialled { target: at, link, place })
    }

    fn launch(
        self: &Arc<Self>,
        link: Arc<Link>,
        registration: LinkRegistration,
    ) -> Result<(), String> {
        let dialer = Arc::clone(self);
        let spawned = threads::spawn_with_stack("pipe", STACK_BYTES, move || {
            let end = link.run();
            dialer.core.peers.remove(&dialer.key, &link, |_| ());
            dialer.core.announce_end(&link, &end);
            drop(registration);
            // Full: the dialling thread takes it when it is done connecting. Disconnected: it
            // has ended.
            let _ = dialer.news.send(News::Ended(link, end));
        });
        spawned.map(drop).map_err(|error| format!("no thread for it: {error}"))
    }

    fn note_ready(&self, link: &Arc<Link>, place: &str, number: Option<u64>, began: Instant) {
        let peer = link.peer();
        log::info!("{}: connected to {place}", peer.name);
        self.core.announce_ready(link, &format!("to {place}"));
        self.core.requests.meter.mark(Mark::Connected { took: began.elapsed() });
        if let Some(number) = number {
            self.place(link, number);
        }
        // Full: the thread is about to look anyway.
        let _ = self.news.try_send(News::Ready);
    }

    /// Has a link asked by from now on. One that was asked by until now finishes what is in flight.
    fn place(&self, link: &Arc<Link>, number: u64) {
        let peer = link.peer();
        let added = self.core.peers.add(&self.key, link, number, true, |added, _| {
            if matches!(added, Added::First | Added::InPlaceOf(..)) {
                let peer = Arc::clone(peer);
                self.core.events.report(ConnectionEvent::ConnectSuccess { peer });
            }
        });
        match added {
            Added::First => {}
            Added::InPlaceOf(old, older) => {
                for old in std::iter::once(old).chain(older) {
                    old.close(LinkEnd::Superseded);
                }
            }
            // The one before that is ended by the dialling thread.
            Added::Superseding(older) => {
                older.iter().for_each(|older| older.close(LinkEnd::Superseded))
            }
            Added::TooLate => link.close(LinkEnd::Superseded),
        }
    }
}

/// Why the server at this place and we did not come to terms; what saw its certificate knows best.
pub(super) fn not_shaken(
    place: &str,
    error: HandshakeError,
    presented: &PresentedCertificate,
) -> String {
    match (error, presented.summary()) {
        (HandshakeError::Certificate(_), Some(seen)) => {
            format!("the server at {place} is refused: {seen}")
        }
        (HandshakeError::Refused(alert), _) => refused_by(place, alert),
        (error @ (HandshakeError::NoTls13 | HandshakeError::HttpServer), _) => {
            format!("the server at {place} is refused: {error}")
        }
        (error, _) => error.to_string(),
    }
}

/// What the certificate says that the server has shown.
pub(super) fn server_certificate(
    place: &str,
    chain: &[CertificateDer<'_>],
) -> Result<PeerCertificate, String> {
    let leaf = chain.first();
    let leaf = leaf.ok_or_else(|| format!("the server at {place} sent no certificate"))?;
    PeerCertificate::read(leaf, Role::Server)
        .map_err(|fault| format!("the server at {place} is refused: {fault}"))
}

/// The server has found a fault with us, and only it knows which.
pub(super) fn refused_by(place: &str, alert: Alert) -> String {
    if alert.is_about_certificate() {
        format!(
            "the server at {place} refused this client's certificate ({alert}): see the server's log"
        )
    } else {
        format!("the server at {place} ended the TLS handshake ({alert}): see the server's log")
    }
}
