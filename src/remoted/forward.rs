//! The caller's side without code: a local port, or standard input and output, whose connections go
//! through brokers.
//!
//! In scope: accepting, bounds, what is said when it fails. Not in scope: how a connection is made
//! (`connect`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use socket2::Socket;

use super::connect::{Connection, REACH, connect};
use super::outbound::Outbound;
use super::relay::{End, Limits, relay};
use super::stream::Stream;
use super::url::{Side, Url};
use super::webroute::ConnectError;
use crate::config::Bind;
use crate::net::accept::{Acceptor, SocketFile, listen};
use crate::sync::permits::Permits;
use crate::sync::workers::Workers;

use crate::sync::throttle::Throttle;

const _: () = assert!(REACH.as_secs() < 15);

/// Where connections go.
pub struct Way {
    route: Vec<Url>,
    outbound: Outbound,
    idle_s: u64,
    workers: Workers,
}

impl Way {
    /// Through these brokers, one after another. `idle_s` as for [`connect`].
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

    /// Handshakes of TLS reach deep into a stack, and what they touched would stay with a thread that
    /// then only waits: they get a thread of their own, which ends.
    fn reach(self: &Arc<Self>) -> Result<Connection, ConnectError> {
        let reach = |way: &Self| connect(&way.route, &way.outbound, way.idle_s);
        if !self.route.iter().any(Url::is_tls) {
            return reach(self);
        }
        let (made, joined) = bounded(1);
        let way = Arc::clone(self);
        let begun = self.workers.run(move || {
            // It is waited for.
            let _ = made.send(reach(&way));
        });
        let joined = begun.ok().and_then(|()| joined.recv().ok());
        // Without a thread for it, on this one.
        joined.unwrap_or_else(|| reach(self))
    }

    /// Carries one connection's bytes until both ways have ended; says how they did.
    fn carry(self: &Arc<Self>, near: Stream, who: &str) -> Result<End, ConnectError> {
        let far = match self.reach() {
            Ok(connection) => connection.into_stream(),
            Err(error) => {
                near.reset();
                return Err(error);
            }
        };
        log::debug!("{who}: joined");
        let outcome = relay(near, far, Limits::default());
        log::debug!("{who}: ended; {} bytes sent, {} received", outcome.to_right, outcome.to_left);
        Ok(outcome.end)
    }
}

/// Carries standard input and output, and ends with them.
pub fn stdio(way: Way) -> Result<(), String> {
    let near = Stream::stdio().map_err(|error| error.to_string())?;
    match Arc::new(way).carry(near, "standard input") {
        Ok(End::Complete | End::Idle) => Ok(()),
        Ok(End::Broken(_, error)) => Err(format!("the connection was broken off: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A local port whose connections go through brokers.
pub struct Forward {
    acceptor: Acceptor,
    address: Bind,
    file: Option<SocketFile>,
    permits: Arc<Permits>,
}

impl Forward {
    /// Listens from now on.
    pub fn start(bind: &Bind, way: Way, max_connections: usize) -> Result<Self, String> {
        let bound = listen(bind).map_err(|error| error.to_string())?;
        let permits = Permits::new(max_connections);
        let port =
            Port { way: Arc::new(way), permits: Arc::clone(&permits), full: Throttle::default() };
        let acceptor = Acceptor::start("remoted", bound.socket, move |socket| port.admit(socket))
            .map_err(|error| error.to_string())?;
        Ok(Self { acceptor, address: bound.address, file: bound.file, permits })
    }

    /// The real address, also where port 0 was asked for.
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
    way: Arc<Way>,
    permits: Arc<Permits>,
    full: Throttle,
}

impl Port {
    fn admit(&self, socket: Socket) {
        let who = match socket.peer_addr().ok().and_then(|address| address.as_socket()) {
            Some(address) => address.to_string(),
            None => "a local program".to_owned(),
        };
        let Some(permit) = self.permits.take() else {
            if let Some(more) = self.full.allow() {
                log::warn!(
                    "{who}: closed: all places for connections are taken (--max-connections){more}"
                );
            }
            return;
        };
        let way = Arc::clone(&self.way);
        let spawned = self.way.workers.run(move || {
            match Stream::socket(socket) {
                Ok(near) => carry(&way, near, &who),
                Err(error) => log::warn!("{who}: closed: {error}"),
            }
            drop(permit);
        });
        if let Err(error) = spawned {
            log::warn!("a connection is closed: no thread for it: {error}");
        }
    }
}

fn carry(way: &Arc<Way>, near: Stream, who: &str) {
    match way.carry(near, who) {
        // How a connection that stood was broken off is between its two ends.
        Ok(End::Broken(_, error)) => log::debug!("{who}: broken off: {error}"),
        Ok(End::Complete | End::Idle) => {}
        Err(error) => log::warn!("{who}: not connected: {error}"),
    }
}
