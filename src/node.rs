//! The two roles: a server that accepts pipes, and a client that dials one and dials again.
//!
//! In scope: who is connected, finding the link for a request, starting and stopping. Not in scope:
//! what happens on a link (`link`), HTTP (`http`).

mod catalog;
mod client;
mod dialer;
mod renewal;
mod requests;
mod rivals;
mod roster;
mod server;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;

pub use client::Client;
pub use server::Server;

use crate::config::{Bind, NodeConfig};
use crate::dial::Resolver;
use crate::handler::{Guarded, Handler, Role};
use crate::http::{BindError, Face, Settings};
use crate::identity::{IdentityError, Keeper};
use crate::link::{End, Service};
use crate::rules::{LoadError, Rulebook};
use catalog::Catalog;
use renewal::{OnNewCertificate, Renewal};
use requests::Requests;
use roster::Roster;

/// How long links get to close properly when a node stops.
const GOODBYE: Duration = Duration::from_millis(1500);
/// How long the answers of callers that the drain did not wait for may take.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often a stopping node looks whether its links have finished.
const LOOK: Duration = Duration::from_millis(10);

/// Why a node does not start.
#[derive(Debug)]
pub enum StartError {
    /// The identity cannot be used.
    Identity(IdentityError),
    /// The rules cannot be used.
    Rules(LoadError),
    /// The local HTTP port cannot be bound.
    Http(BindError),
    /// The pipe port cannot be bound.
    Pipe(SocketAddr, io::Error),
    /// No thread to be had.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(error) => write!(f, "{error}"),
            Self::Rules(error) => write!(f, "{error}"),
            Self::Http(error) => write!(f, "the local HTTP port: {error}"),
            Self::Pipe(address, error) => {
                write!(f, "the pipe port: cannot listen on {address}: {error}")
            }
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What both roles are made of.
struct Core {
    identity: Arc<Keeper>,
    roster: Arc<Roster>,
    /// Absent: every peer may ask anything.
    rules: Option<Arc<Rulebook>>,
    handler: Arc<dyn Handler>,
    service: Arc<Service>,
    catalog: Arc<Catalog>,
    resolver: Arc<Resolver>,
    face: Face,
}

impl Core {
    fn start(
        role: Role,
        config: &NodeConfig,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, StartError> {
        let now = UnixTime::now();
        let identity = Keeper::load(config.identity.clone(), config.crl.clone(), role, now)
            .map_err(StartError::Identity)?;
        renewal::warn_if_revoked(&identity, now);
        let rules = open_rules(config)?;
        let handler = match &rules {
            Some(book) => Arc::new(Guarded::new(handler, Arc::clone(book))),
            None => handler,
        };
        let service =
            Service::start(role, Arc::clone(&handler), config.debug).map_err(StartError::Thread)?;
        let catalog = Arc::new(Catalog::default());
        let resolver = Arc::new(Resolver::default());
        let requests = Requests {
            catalog: Arc::clone(&catalog),
            resolver: Arc::clone(&resolver),
            reply_timeout: config.reply_timeout,
        };
        let settings = Settings {
            bind: config.http_bind.clone(),
            allowed_hosts: config.http_allowed_hosts.clone(),
            max_body_bytes: config.max_body_bytes,
            connection_wait: config.connection_wait,
            ..Settings::new(role)
        };
        let face = Face::start(settings, Arc::new(requests)).map_err(StartError::Http)?;
        let identity = Arc::new(identity);
        let roster = Arc::default();
        Ok(Self { identity, roster, rules, handler, service, catalog, resolver, face })
    }

    /// Keeps the identity up to date from now on.
    fn keep_up(&self, on_new_certificate: OnNewCertificate) -> Result<Renewal, StartError> {
        let (keeper, roster) = (Arc::clone(&self.identity), Arc::clone(&self.roster));
        Renewal::start(keeper, roster, self.rules.clone(), on_new_certificate)
            .map_err(StartError::Thread)
    }

    fn http_address(&self) -> &Bind {
        self.face.address()
    }

    /// Finishes what is in flight, at most until the deadline, and closes every link.
    fn stop(&self, deadline: Instant) {
        self.face.stop_accepting();
        self.service.stop();
        self.catalog.stop();
        self.face.finish(deadline);
        let links: Vec<_> =
            self.roster.entries().iter().map(|entry| Arc::clone(&entry.link)).collect();
        let (_alive, never) = crossbeam_channel::bounded::<()>(0);
        while Instant::now() < deadline && !links.iter().all(|link| link.is_idle()) {
            // Nothing is sent: this is a pause between looks.
            let _ = never.recv_timeout(LOOK);
        }
        // Also those that came meanwhile.
        for entry in self.roster.entries() {
            entry.link.close(End::Stopping);
        }
        // Callers whose links were closed under them are being told so.
        self.face.drain(Instant::now() + LAST_WORDS);
        self.handler.stop();
    }
}

fn open_rules(config: &NodeConfig) -> Result<Option<Arc<Rulebook>>, StartError> {
    let Some(path) = &config.rules else { return Ok(None) };
    let book = Rulebook::open(path).map_err(StartError::Rules)?;
    renewal::say_rules("rules", &book);
    Ok(Some(Arc::new(book)))
}
