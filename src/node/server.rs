//! The server: accepts pipes, checks who they are, and keeps the newest of each name.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ServerConfig as TlsConfig;
use socket2::{Domain, Socket, Type};

use super::catalog::Catalog;
use super::takeovers::MANY;
use super::{Core, GOODBYE, StartError};
use crate::accept::Acceptor;
use crate::config::{Bind, ServerConfig};
use crate::handler::{Handler, PeerIdentity, Role};
use crate::identity::PeerCertificate;
use crate::link::{End, Link, Parts, Pulse, Service, Tls};
use crate::throttle::Throttle;
use crate::wire::Limits;

/// The time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most connections that have not proved who they are.
const MAX_STRANGERS: usize = 512;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Stack of a connection's thread.
const STACK: usize = 512 * 1024;
/// How long a client may be silent that announces no time of its own, as the original has it.
const SILENCE: Duration = Duration::from_secs(10);

/// A running server.
pub struct Server {
    core: Core,
    pipe_address: SocketAddr,
    acceptor: Acceptor,
    connections: Arc<Connections>,
}

impl Server {
    /// Binds both ports and serves from then on.
    pub fn start(config: &ServerConfig, handler: Arc<dyn Handler>) -> Result<Self, StartError> {
        let bound =
            listen(config.pipe_bind).map_err(|error| StartError::Pipe(config.pipe_bind, error))?;
        let (listener, pipe_address) = bound;
        let core = Core::start(Role::Server, &config.node, handler)?;
        let connections = Arc::new(Connections {
            tls: core.identity.server_config(),
            service: Arc::clone(&core.service),
            catalog: Arc::clone(&core.catalog),
            limits: Limits { max_data: config.node.max_body_bytes },
            strangers: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            refusals: Throttle::default(),
        });
        let admitting = Arc::clone(&connections);
        let acceptor = Acceptor::start("pipe", listener, move |socket| admitting.admit(socket))
            .map_err(StartError::Thread)?;
        Ok(Self { core, pipe_address, acceptor, connections })
    }

    /// Where pipes are accepted: the real port, also where port 0 was asked for.
    pub fn pipe_address(&self) -> SocketAddr {
        self.pipe_address
    }

    /// Where the local HTTP port listens.
    pub fn http_address(&self) -> &Bind {
        self.core.http_address()
    }

    /// Stops: takes nothing new, finishes what is in flight for at most this long, and closes the
    /// pipes.
    pub fn stop(mut self, drain: Duration) {
        self.acceptor.stop();
        self.core.stop(Instant::now() + drain);
        self.connections.wait_closed(Instant::now() + GOODBYE);
    }
}

fn listen(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// What all connections of the server share.
struct Connections {
    tls: Arc<TlsConfig>,
    service: Arc<Service>,
    catalog: Arc<Catalog>,
    limits: Limits,
    /// Connections in their handshake.
    strangers: AtomicUsize,
    /// Connections with a thread.
    open: AtomicUsize,
    /// Authenticated connections so far.
    number: AtomicU64,
    /// Keeps those who knock without a key from flooding the log.
    refusals: Throttle,
}

impl Connections {
    /// Gives a connection its thread. The handshake is made there: it may take its time.
    fn admit(self: &Arc<Self>, socket: Socket) {
        let stranger = Counted::new(self, |connections| &connections.strangers);
        if stranger.before >= MAX_STRANGERS {
            self.refuse("a connection", "too many are in their handshake");
            return;
        }
        let connections = Arc::clone(self);
        let spawned =
            thread::Builder::new().name("pipe".to_owned()).stack_size(STACK).spawn(move || {
                let _open = Counted::new(&connections, |connections| &connections.open);
                connections.serve(socket.into(), stranger);
            });
        if let Err(error) = spawned {
            self.refuse("a connection", &format!("no thread for it: {error}"));
        }
    }

    /// A connection's whole life, on its own thread.
    fn serve(self: &Arc<Self>, socket: TcpStream, stranger: Counted) {
        let Ok(address) = socket.peer_addr() else { return };
        match self.welcome(socket, address) {
            Ok((link, number)) => {
                drop(stranger);
                let end = link.run();
                self.catalog.remove(&link.peer().name, &link);
                log::info!("{}: lost ({address}): {end}", link.peer().name);
                log::debug!("{}: that was connection {number}", link.peer().name);
            }
            Err(reason) => self.refuse(&address.to_string(), &reason),
        }
    }

    /// Shakes hands and makes the link.
    fn welcome(
        self: &Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
    ) -> Result<(Arc<Link>, u64), String> {
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let deadline = Instant::now() + HANDSHAKE;
        let (tls, certificate) = Tls::accept(Arc::clone(&self.tls), &socket, deadline)
            .map_err(|error| error.to_string())?;
        let certificate = PeerCertificate::read(&certificate, Role::Client)
            .map_err(|fault| format!("its certificate cannot be used: {fault}"))?;
        let peer = PeerIdentity {
            name: certificate.name,
            fingerprint: certificate.fingerprint,
            address: address.ip().to_canonical(),
        };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let catalog = Arc::clone(&self.catalog);
        let link = Link::new(Parts {
            peer: Arc::new(peer),
            socket,
            tls,
            service: Arc::clone(&self.service),
            pulse: Pulse::Answers { silence: SILENCE },
            limits: self.limits,
            on_ready: Box::new(move |link| {
                let replaced = catalog.add(&link.peer().name, link, number);
                log::info!(
                    "{}: connected from {address}{}",
                    link.peer().name,
                    if replaced.is_some() { ", in place of an older connection" } else { "" }
                );
                if let Some(old) = replaced {
                    if old.many {
                        log::warn!(
                            "{}: its connections replaced each other {MANY} times within a \
                             minute: is its certificate in use on more than one machine?",
                            link.peer().name
                        );
                    }
                    old.link.close(End::Replaced(address.to_string()));
                }
            }),
        })
        .map_err(|error| error.to_string())?;
        Ok((link, number))
    }

    fn refuse(&self, who: &str, why: &str) {
        if let Some(left_out) = self.refusals.note(Instant::now()) {
            log::warn!("{who}: refused: {why} ({left_out} more refusals since the last such line)");
        }
    }

    /// Waits until all connections have ended.
    fn wait_closed(&self, deadline: Instant) {
        let (_alive, never) = crossbeam_channel::bounded::<()>(0);
        while self.open.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            // Nothing is sent: this is a pause between looks.
            let _ = never.recv_timeout(super::LOOK);
        }
    }
}

/// Counts for as long as it lives.
struct Counted {
    connections: Arc<Connections>,
    counter: fn(&Connections) -> &AtomicUsize,
    /// The count before this one.
    before: usize,
}

impl Counted {
    fn new(connections: &Arc<Connections>, counter: fn(&Connections) -> &AtomicUsize) -> Self {
        let before = counter(connections).fetch_add(1, Ordering::AcqRel);
        Self { connections: Arc::clone(connections), counter, before }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.connections).fetch_sub(1, Ordering::AcqRel);
    }
}
