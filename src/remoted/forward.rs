//! The caller's side without code: relays a local port, or standard input and output, through brokers.
//!
//! In scope: accepting, bounds, what is logged on failure. Not in scope: how a connection is made (`connect`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use socket2::Socket;

use super::connect::{BrokeredConnection, CONNECT_TIMEOUT};
use super::outbound::Outbound;
use super::relay::{RelayEnd, RelayLimits, relay};
use super::stream::Stream;
use super::url::{Side, Url};
use super::webroute::ConnectError;
use crate::config::Bind;
use crate::net::accept::{Acceptor, AtStop, SocketFile, listen};
use crate::net::reset::set_reset_on_close;
use crate::sync::line_budget::LineBudget;
use crate::sync::permits::Permits;
use crate::sync::workers::Workers;

const _: () = assert!(CONNECT_TIMEOUT.as_secs() < 15);

/// The brokers that connections pass.
pub struct BrokerChain {
    route: Vec<Url>,
    outbound: Outbound,
    idle_s: u64,
    workers: Workers,
}

impl BrokerChain {
    /// Through these brokers, in this order. `idle_s` as for [`connect`](super::connect()).
    pub fn new(route: Vec<Url>, outbound: Outbound, idle_s: u64) -> Result<Self, String> {
        if route.is_empty() {
            return Err("there is no address to connect to".to_owned());
        }
        if let Some(url) = route.iter().find(|url| url.side() != Side::Caller) {
            return Err(format!("{url}: what is called begins with rwr or rwrs"));
        }
        outbound.check(&route)?;
        Ok(Self { route, outbound, idle_s, workers: Workers::new("carry") })
    }

    /// A TLS handshake needs a large stack, which would stay with a thread that then only waits. It runs on a
    /// short-lived thread of its own.
    fn connect(self: &Arc<Self>) -> Result<BrokeredConnection, ConnectError> {
        let connect = |way: &Self| super::connect::connect(&way.route, &way.outbound, way.idle_s);
        if !self.route.iter().any(Url::is_tls) {
            return connect(self);
        }
        let (made, joined) = bounded(1);
        let way = Arc::clone(self);
        let begun = self.workers.run(move || {
            // The receiver waits for it.
            let _ = made.send(connect(&way));
        });
        let joined = begun.ok().and_then(|()| joined.recv().ok());
        // If no thread can be created, connect on this one.
        joined.unwrap_or_else(|| connect(self))
    }

    /// Relays one connection until both directions have ended, and returns the outcome.
    fn carry(self: &Arc<Self>, near: Stream, who: &str) -> Result<RelayEnd, ConnectError> {
        let far = self.connect()?.into_stream();
        log::debug!("{who}: joined");
        let limits = RelayLimits { idle: Some(Duration::from_secs(self.idle_s)) };
        let outcome = relay(near, far, limits);
        log::debug!("{who}: ended; {} bytes sent, {} received", outcome.to_right, outcome.to_left);
        Ok(outcome.end)
    }
}

/// Relays standard input and output until they end.
pub fn stdio(way: BrokerChain) -> Result<(), String> {
    let idle_s = way.idle_s;
    let near = Stream::stdio().map_err(|error| error.to_string())?;
    match Arc::new(way).carry(near, "standard input") {
        Ok(RelayEnd::Complete) => Ok(()),
        Ok(RelayEnd::Idle) => Err(format!("nothing was sent for {idle_s} s (--idle)")),
        Ok(RelayEnd::Broken(_, error)) => Err(format!("the connection was broken off: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A local port whose connections are relayed through brokers.
pub struct BrokerForward {
    acceptor: Acceptor,
    address: Bind,
    file: Option<SocketFile>,
    permits: Arc<Permits>,
}

impl BrokerForward {
    /// Binds the port and starts to accept.
    pub fn start(bind: &Bind, way: BrokerChain, max_connections: usize) -> Result<Self, String> {
        let bound = listen(bind).map_err(|error| error.to_string())?;
        let permits = Permits::new(max_connections);
        let port = Port {
            way: Arc::new(way),
            permits: Arc::clone(&permits),
            log: LineBudget::new(bound.address.to_string()),
        };
        let acceptor = Acceptor::start("remoted", bound.socket, AtStop::Refuse, move |socket| {
            port.admit(socket)
        })
        .map_err(|error| error.to_string())?;
        Ok(Self { acceptor, address: bound.address, file: bound.file, permits })
    }

    /// The real address, also if port 0 was requested.
    pub fn address(&self) -> &Bind {
        &self.address
    }

    /// Closes the port and gives connections this long to end.
    pub fn stop(mut self, drain: Duration) {
        self.acceptor.stop();
        if let Some(file) = self.file.take() {
            file.remove();
        }
        wait_until_closed(&self.permits, drain);
    }
}

/// Gives connections this long to end.
pub(super) fn wait_until_closed(connections: &Permits, drain: Duration) {
    let left = connections.wait_empty(Instant::now() + drain);
    if left > 0 {
        log::warn!("{left} connections were still open and are broken off");
    }
}

struct Port {
    way: Arc<BrokerChain>,
    permits: Arc<Permits>,
    /// Limits the log lines that callers from other machines cause.
    log: Arc<LineBudget>,
}

impl Port {
    fn admit(&self, socket: Socket) {
        // Until both directions have ended in order.
        set_reset_on_close(&socket, true);
        let address = socket.peer_addr().ok().and_then(|address| address.as_socket());
        let is_remote = address.is_some_and(|address| !address.ip().to_canonical().is_loopback());
        let caller = Caller {
            name: address.map_or_else(|| "a local program".to_owned(), |a| a.to_string()),
            log: is_remote.then(|| Arc::clone(&self.log)),
        };
        let Some(permit) = self.permits.take() else {
            return caller.warn(
                "all places taken",
                "closed: all places for connections are taken (--max-connections)",
            );
        };
        let (way, served) = (Arc::clone(&self.way), caller.clone());
        let spawned = self.way.workers.run(move || {
            match Stream::socket(socket) {
                Ok(near) => carry(&way, near, &served),
                Err(error) => served.warn("broken connection", &format!("closed: {error}")),
            }
            drop(permit);
        });
        if let Err(error) = spawned {
            caller.warn("no thread", &format!("closed: no thread for it: {error}"));
        }
    }
}

/// Who connected, and how its log lines are limited, if they are.
#[derive(Clone)]
struct Caller {
    name: String,
    log: Option<Arc<LineBudget>>,
}

impl Caller {
    fn warn(&self, cause: &'static str, why: &str) {
        match &self.log {
            Some(log) => drop(log.warn(cause, &self.name, why)),
            None => log::warn!("{}: {why}", self.name),
        }
    }
}

fn carry(way: &Arc<BrokerChain>, near: Stream, caller: &Caller) {
    match way.carry(near, &caller.name) {
        // A connection that breaks after it was established concerns only its two ends.
        Ok(RelayEnd::Broken(_, error)) => log::debug!("{}: broken off: {error}", caller.name),
        Ok(RelayEnd::Idle) => {
            log::debug!("{}: broken off: nothing was sent for {} s", caller.name, way.idle_s);
        }
        Ok(RelayEnd::Complete) => {}
        Err(error) => caller.warn("not connected", &format!("not connected: {error}")),
    }
}
