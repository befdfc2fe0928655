//! The state shared by the parts of a node: identity, rules, handler, links and listeners.
//!
//! In scope: setting it up, and announcing links that become ready or end. Not in scope: local
//! ports (`running`), how links are made (`dialer`, `server`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;

use super::StartError;
use super::feed::{Feed, Happening};
use super::link_registry::LinkRegistry;
use super::peer_finder::PeerFinder;
use super::peer_table::PeerTable;
use super::requests::Requests;
use crate::config::NodeConfig;
use crate::handler::{Guarded, Handler, Role};
use crate::identity::ReloadableIdentity;
use crate::lifecycle::hook::HookProgram;
use crate::lifecycle::{EventListeners, Events};
use crate::link::{EventService, Link, LinkEnd};
use crate::metrics::exposition::Metrics;
use crate::metrics::meter::Meter;
use crate::metrics::statsd::StatsdSender;
use crate::net::dial::{self, Resolver};
use crate::rules::Rulebook;
use crate::tcp_tunnel::Targets;
use crate::wire::FrameLimits;

/// After the start an unknown name may be that of a client that has not come back yet, for this
/// long: none waits longer before it dials again.
const UNKNOWN_NAMES_WAIT: Duration = dial::MAX_WAIT;

/// The state shared by the parts of a node.
pub(super) struct Core {
    pub role: Role,
    pub identity: ReloadableIdentity,
    pub registry: Arc<LinkRegistry>,
    /// Absent if peers may request anything.
    pub rules: Option<Arc<Rulebook>>,
    pub handler: Arc<dyn Handler>,
    pub service: Arc<EventService>,
    pub peers: Arc<PeerTable>,
    pub resolver: Arc<Resolver>,
    pub requests: Arc<Requests>,
    pub events: Events,
    pub feed: Feed,
    pub metrics: Arc<Metrics>,
    pub statsd: Option<Arc<StatsdSender>>,
    /// Message size limits of the links.
    pub limits: FrameLimits,
    /// Time limit for replies, and maximum stall of a body.
    pub reply_timeout: Duration,
}

impl Core {
    /// `lookup_hosts`: see [`ServerConfig`](crate::config::ServerConfig).
    pub fn new(
        role: Role,
        config: &NodeConfig,
        lookup_hosts: Vec<String>,
        handler: Arc<dyn Handler>,
        listeners: EventListeners,
    ) -> Result<Arc<Self>, StartError> {
        let now = UnixTime::now();
        let identity =
            ReloadableIdentity::load(config.identity.clone(), config.crl.clone(), role, now)
                .map_err(StartError::Identity)?;
        warn_if_revoked(&identity, now);
        let rules = open_rules(config)?;
        // Even without targets: no other handler may see requests for them.
        let handler: Arc<dyn Handler> = Arc::new(Targets::new(config.tcp_targets.clone(), handler));
        let handler = match &rules {
            Some(book) => Arc::new(Guarded::new(handler, Arc::clone(book))),
            None => handler,
        };
        let events = start_events(role, config, listeners)?;
        let statsd = config.statsd.as_ref().map(StatsdSender::start).transpose();
        let statsd = statsd.map_err(StartError::Thread)?.map(Arc::new);
        let metrics = Arc::new(Metrics::new().map_err(StartError::Metrics)?);
        let mut meters = vec![Arc::clone(&metrics) as Arc<dyn Meter>];
        meters.extend(statsd.iter().map(|statsd| Arc::clone(statsd) as _));
        let meter: Arc<dyn Meter> = Arc::new(meters);
        let service =
            EventService::start(role, Arc::clone(&handler), config.debug, Arc::clone(&meter))
                .map_err(StartError::Thread)?;
        let peers = Arc::new(match role {
            Role::Server => PeerTable::default(),
            Role::Client => PeerTable::of_servers(),
        });
        let resolver = Arc::new(Resolver::default());
        let requests = Arc::new(Requests {
            finder: PeerFinder {
                peers: Arc::clone(&peers),
                resolver: Arc::clone(&resolver),
                host_names: lookup_hosts,
                unknown_until: Instant::now() + UNKNOWN_NAMES_WAIT,
            },
            reply_timeout: config.reply_timeout,
            meter,
        });
        Ok(Arc::new(Self {
            role,
            identity,
            registry: Arc::default(),
            rules,
            handler,
            service,
            peers,
            resolver,
            requests,
            events,
            feed: Feed::default(),
            metrics,
            statsd,
            limits: FrameLimits { max_data: config.max_body_bytes },
            reply_timeout: config.reply_timeout,
        }))
    }

    /// Announces a link that became ready to the listeners, the hook and the event stream. `route`
    /// says where the link comes from or leads to.
    pub fn announce_ready(&self, link: &Link, route: &str) {
        self.events.started(link.peer());
        self.feed.publish(Happening::Connect, Some(link.peer()), route);
    }

    /// Announces the end of a link, unless it was never ready and so never announced.
    pub fn announce_end(&self, link: &Link, end: &LinkEnd) {
        if link.is_ready() {
            self.events.stopped(link.peer(), end);
            self.feed.publish(Happening::Loss, Some(link.peer()), &end.to_string());
        }
    }
}

/// Starts the reporting of connection events, including the configured hook program.
fn start_events(
    role: Role,
    config: &NodeConfig,
    mut listeners: EventListeners,
) -> Result<Events, StartError> {
    if let Some(hook) = &config.hook {
        let program = HookProgram::new(&hook.path, listeners.ending())
            .map_err(|unusable| StartError::Hook(role, unusable))?;
        listeners.on_event(move |event| program.run(event));
    }
    Events::start(role, listeners).map_err(StartError::Thread)
}

fn open_rules(config: &NodeConfig) -> Result<Option<Arc<Rulebook>>, StartError> {
    let Some(path) = &config.rules else { return Ok(None) };
    let book = Rulebook::open(path).map_err(StartError::Rules)?;
    log_rules("rules", &book);
    Ok(Some(Arc::new(book)))
}

/// Warns if the node's own certificate is on the revocation list: the node runs, but its peers
/// refuse it.
pub(super) fn warn_if_revoked(keeper: &ReloadableIdentity, now: UnixTime) {
    let identity = keeper.current();
    if let (true, Some(crl)) = (identity.is_revoked(now), identity.crl()) {
        log::warn!(
            "{}: this node's own certificate (sha256 {}) is revoked; peers will refuse it",
            crl.display(),
            identity.own().fingerprint
        );
    }
}

/// Logs the rules now in effect.
pub(super) fn log_rules(what: &str, book: &Rulebook) {
    let (path, count) = (book.path().display(), book.rules().len());
    match count {
        0 => log::warn!("{what}: {path} allows nothing: every request from a peer is refused"),
        1 => log::info!("{what}: 1 line of {path} limits what peers may request"),
        _ => log::info!("{what}: {count} lines of {path} limit what peers may request"),
    }
}
