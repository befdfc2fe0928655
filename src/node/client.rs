//! The client: dials the server, and dials again whenever the link is lost.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustls::ClientConfig as TlsConfig;
use rustls::pki_types::ServerName;

use super::backoff::{self, Backoff};
use super::catalog::Catalog;
use super::requests::SERVER;
use super::resolve::Resolver;
use super::{Core, GOODBYE, StartError};
use crate::config::{Bind, ClientConfig};
use crate::handler::{Handler, PeerIdentity, Role};
use crate::identity::PeerCertificate;
use crate::link::{End, Link, Parts, Pulse, Service, Tls};
use crate::wire::Limits;

/// The time for finding the server's address, for each attempt to connect, and for the handshake.
const STEP: Duration = Duration::from_secs(10);
/// A link that lived this long was well; the next loss starts with short waits again. Longer than
/// any wait: of two machines with one certificate, each lives for as long as the other waits, and
/// neither may take that for a reason to come back faster.
const WELL: Duration = Duration::from_secs(60);
const _: () = assert!(WELL.as_secs() > backoff::LONGEST.as_secs());

/// A running client.
pub struct Client {
    core: Core,
    dialer: Arc<Dialer>,
    /// Dropped to end the dialling thread's waits.
    stop: Sender<()>,
    /// Disconnects when the dialling thread has ended.
    ended: Receiver<()>,
}

impl Client {
    /// Binds the local HTTP port, and dials from then on.
    pub fn start(config: &ClientConfig, handler: Arc<dyn Handler>) -> Result<Self, StartError> {
        let core = Core::start(Role::Client, &config.node, handler)?;
        let dialer = Arc::new(Dialer {
            tls: core.identity.client_config(),
            host: config.target_host.clone(),
            port: config.target_port,
            server_name: config.server_name.clone(),
            pulse: Pulse::Sends {
                interval: config.heartbeat_interval,
                silence: config.heartbeat_timeout,
            },
            limits: Limits { max_data: config.node.max_body_bytes },
            service: Arc::clone(&core.service),
            catalog: Arc::clone(&core.catalog),
            resolver: Arc::clone(&core.resolver),
            stopping: AtomicBool::new(false),
            current: Mutex::new(None),
        });
        let (stop, stopped) = bounded(0);
        let (running, ended) = bounded::<()>(0);
        let dialing = Arc::clone(&dialer);
        thread::Builder::new()
            .name("dial".to_owned())
            .spawn(move || {
                let _running = running;
                dialing.run(&stopped);
            })
            .map_err(StartError::Thread)?;
        Ok(Self { core, dialer, stop, ended })
    }

    /// Where the local HTTP port listens.
    pub fn http_address(&self) -> &Bind {
        self.core.http_address()
    }

    /// Stops: takes nothing new, finishes what is in flight for at most this long, and closes the
    /// pipe.
    pub fn stop(self, drain: Duration) {
        self.dialer.stopping.store(true, Ordering::Release);
        drop(self.stop);
        self.core.stop(Instant::now() + drain);
        // A link that was not ready is in no catalog.
        if let Some(link) = self.dialer.current().take() {
            link.close(End::Stopping);
        }
        // A thread that is still inside an attempt to connect ends with the process.
        let _ = self.ended.recv_timeout(GOODBYE);
    }
}

/// Dials, for as long as the client runs.
struct Dialer {
    tls: Arc<TlsConfig>,
    host: String,
    port: u16,
    server_name: String,
    pulse: Pulse,
    limits: Limits,
    service: Arc<Service>,
    catalog: Arc<Catalog>,
    resolver: Arc<Resolver>,
    stopping: AtomicBool,
    /// Guards the link that is up or coming up, for stopping. Held for moments.
    current: Mutex<Option<Arc<Link>>>,
}

impl Dialer {
    fn run(&self, stopped: &Receiver<()>) {
        let target = format!("{}:{}", self.host, self.port);
        let mut backoff = Backoff::default();
        let mut number = 0;
        while !self.stopping.load(Ordering::Acquire) {
            number += 1;
            match self.dial(number) {
                Ok(link) => {
                    let up = Instant::now();
                    *self.current() = Some(Arc::clone(&link));
                    let end = link.run();
                    self.catalog.remove(SERVER, &link);
                    *self.current() = None;
                    if link.is_ready() {
                        log::info!("{target}: lost: {end}");
                        if up.elapsed() >= WELL {
                            backoff.reset();
                        }
                    } else {
                        match end {
                            End::Stopping => {}
                            End::Protocol(_) | End::Silent(_) | End::Failed(_) => {
                                log::warn!("{target}: not connected: {end}");
                            }
                            // The server judges our certificate when for us the handshake is over.
                            _ => {
                                log::warn!("{target}: the server did not accept this client: {end}")
                            }
                        }
                    }
                }
                Err(reason) => log::warn!("{target}: not connected: {reason}"),
            }
            let wait = backoff.next_wait(fastrand::f64());
            log::debug!("{target}: dialling again in {:.1} s", wait.as_secs_f64());
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Connects, shakes hands and makes the link.
    fn dial(&self, number: u64) -> Result<Arc<Link>, String> {
        let name = ServerName::try_from(self.server_name.clone())
            .map_err(|_| format!("{:?} is no name a certificate can have", self.server_name))?;
        let socket = self.connect()?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let address = socket.peer_addr().map_err(|error| error.to_string())?;
        let deadline = Instant::now() + STEP;
        let (tls, certificate) = Tls::connect(Arc::clone(&self.tls), name, &socket, deadline)
            .map_err(|error| error.to_string())?;
        let certificate = PeerCertificate::read(&certificate, Role::Server)
            .map_err(|fault| format!("the server's certificate cannot be used: {fault}"))?;
        let peer = PeerIdentity {
            name: certificate.name,
            fingerprint: certificate.fingerprint,
            address: address.ip().to_canonical(),
        };
        let catalog = Arc::clone(&self.catalog);
        Link::new(Parts {
            peer: Arc::new(peer),
            socket,
            tls,
            service: Arc::clone(&self.service),
            pulse: self.pulse,
            limits: self.limits,
            on_ready: Box::new(move |link| {
                log::info!("{}: connected to {address}", link.peer().name);
                if let Some(old) = catalog.add(SERVER, link, number) {
                    old.link.close(End::Replaced(address.to_string()));
                }
            }),
        })
        .map_err(|error| error.to_string())
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

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Arc<Link>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
