//! The dialling thread: keeps a pipe to the first server in its list that works, and a second one
//! while a new certificate replaces the old or an earlier server becomes usable again.

mod dial_loop;
mod redial;

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

/// Time limit for connecting, including all addresses and the proxy, and again for the handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Stack size of a pipe's thread.
const STACK_BYTES: usize = 512 * 1024;
/// Maximum queued messages for the dialling thread.
pub(super) const MAX_QUEUED_NEWS: usize = 64;

/// Messages to the dialling thread.
pub(super) enum News {
    /// A link is ready, or its server is stopping.
    Ready,
    /// An earlier server was tried, with this result.
    Tried(Result<Dialled, String>),
    /// A link has ended.
    Ended(Arc<Link>, LinkEnd),
    /// This node has a new certificate.
    NewCertificate,
    /// Nothing is in flight: close the remaining links.
    Stop,
}

/// An established connection to the server at position `target` in the list.
pub(super) struct Dialled {
    pub target: usize,
    pub link: Arc<Link>,
    /// The route to the server, for messages.
    pub place: String,
}

/// The purpose of a connection.
#[derive(Clone, Copy)]
struct Purpose {
    /// The connection's number, if it is to be used for requests once ready; absent for a trial of
    /// an earlier server.
    number: Option<u64>,
    /// Another connection to the same server exists, and this client closes that one.
    takes_over: bool,
}

/// Dials as long as the client runs.
pub(super) struct Dialer {
    pub core: Arc<Core>,
    /// The servers, in order of preference.
    pub targets: Vec<ServerTarget>,
    /// The key in the peer table, whichever server is connected.
    pub key: String,
    pub heartbeat: HeartbeatMode,
    pub news: Sender<News>,
    /// Once set, no new connections are dialled.
    pub stopping: AtomicBool,
}

impl Dialer {
    /// Connects to a server, performs the handshake, and runs the link on its own thread.
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
            // Full: the dialling thread receives it after its current attempt. Disconnected: that
            // thread has exited.
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

    /// Makes this the link for new requests. Its predecessor finishes what is in flight.
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
            // The dialling thread closes the replaced link.
            Added::Superseding(older) => {
                older.iter().for_each(|older| older.close(LinkEnd::Superseded))
            }
            Added::TooLate => link.close(LinkEnd::Superseded),
        }
    }
}

/// Why the handshake with the server at `place` failed; a rejected certificate is best explained by
/// the verifier.
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

/// The contents of the certificate that the server presented.
pub(super) fn server_certificate(
    place: &str,
    chain: &[CertificateDer<'_>],
) -> Result<PeerCertificate, String> {
    let leaf = chain.first();
    let leaf = leaf.ok_or_else(|| format!("the server at {place} sent no certificate"))?;
    PeerCertificate::read(leaf, Role::Server)
        .map_err(|fault| format!("the server at {place} is refused: {fault}"))
}

/// The server rejected us; only the server knows why.
pub(super) fn refused_by(place: &str, alert: Alert) -> String {
    if alert.is_about_certificate() {
        format!(
            "the server at {place} refused this client's certificate ({alert}): see the server's log"
        )
    } else {
        format!("the server at {place} ended the TLS handshake ({alert}): see the server's log")
    }
}
