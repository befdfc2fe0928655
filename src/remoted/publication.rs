//! Publishing existing servers: each caller of a path is connected to a local server.
//!
//! In scope: opening both connections of a caller concurrently, logging failures. Not in scope:
//! registering (`registrar`), bounds and threads (`call_dispatcher`).

use std::io;
use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::call_dispatcher::{CallCapacity, CallDispatcher};
use super::connect::CONNECT_TIMEOUT;
use super::forward::wait_until_closed;
use super::incoming_call::IncomingCall;
use super::outbound::Outbound;
use super::proxy_protocol;
use super::registrar::{self, Registrar};
use super::relay::{RelayEnd, RelayLimits, RelayOutcome, RelaySide, relay};
use super::stream::Stream;
use super::url::Url;
use super::websocket::LivenessTimeouts;
use crate::net::dial::Address;
use crate::net::reset::set_reset_on_close;
use crate::sync::permits::Permits;
use crate::sync::workers::Workers;

/// Maximum number of connections at once, unless the program sets another number.
pub const DEFAULT_MAX_CONNECTIONS: usize = 4096;
/// The time limit for both connections of a caller, with some slack.
const JOIN_AND_DIAL_TIMEOUT: Duration = Duration::from_secs(CONNECT_TIMEOUT.as_secs() + 2);

/// A path and the server behind it: an address and a target separated by white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPath {
    /// The path on a broker.
    pub url: Url,
    /// The local server.
    pub target: Address,
}

impl FromStr for PublishedPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (Some(url), Some(target), None) = (words.next(), words.next(), words.next()) else {
            return Err("a path is published as an address and a target".to_owned());
        };
        let url = url.parse().map_err(|error: super::UrlError| error.to_string())?;
        Ok(Self { url, target: target.parse().map_err(|why: &str| format!("the target: {why}"))? })
    }
}

/// Options of a publication.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether servers receive their callers' addresses: version 1 of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Maximum number of connections at once, over all paths.
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { proxy_protocol: false, max_connections: DEFAULT_MAX_CONNECTIONS }
    }
}

/// Paths that are published until this is stopped.
pub struct Publication {
    registrars: Vec<Registrar>,
    permits: Arc<Permits>,
}

impl Publication {
    /// Starts to publish. `on_registered` is called when a path is registered for the first time, with its
    /// index in `routes`.
    pub fn start(
        routes: Vec<PublishedPath>,
        outbound: &Arc<Outbound>,
        options: Options,
        on_registered: impl Fn(usize) + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        registrar::check(routes.iter().map(|route| &route.url), outbound)?;
        let full = "all places for connections are taken (--max-connections)";
        let capacity = CallCapacity::new(options.max_connections, "serve", full);
        let mut registrars = Vec::with_capacity(routes.len());
        for (at, PublishedPath { url, target }) in routes.into_iter().enumerate() {
            let forwarder = Forwarder {
                target,
                proxy_protocol: options.proxy_protocol,
                workers: Arc::clone(&capacity.workers),
            };
            let (first, on_registered) = (Once::new(), on_registered.clone());
            let calls = CallDispatcher::new(
                capacity.clone(),
                move |call| forwarder.forward(&call),
                move || first.call_once(|| on_registered(at)),
            );
            registrars.push(Registrar::start(url, outbound, LivenessTimeouts::DEFAULT, calls)?);
        }
        Ok(Self { registrars, permits: capacity.permits })
    }

    /// Withdraws the paths and gives joined connections this long to end.
    pub fn stop(mut self, drain: Duration) {
        self.registrars.iter_mut().for_each(Registrar::stop);
        wait_until_closed(&self.permits, drain);
    }
}

/// Connects each caller of a path to the server behind it.
struct Forwarder {
    target: Address,
    proxy_protocol: bool,
    workers: Arc<Workers>,
}

impl Forwarder {
    /// Serves one caller, from its notice to its end.
    fn forward(&self, call: &Arc<IncomingCall>) {
        let target = &self.target;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        // Both connections are opened concurrently: the caller waits only for the slower one.
        let (made, joined) = bounded(1);
        let joining = Arc::clone(call);
        let begun = self.workers.run(move || {
            // The receiver waits, unless this took longer than its limit.
            let _ = made.send(joining.join());
        });
        if let Err(error) = begun {
            return log::warn!("{call}: not served: no thread for it: {error}");
        }
        let connected = target.connect(call.outbound.resolver(), deadline).and_then(|socket| {
            // If the caller is not joined, the server must not take that for a caller who sent nothing.
            set_reset_on_close(&socket, true);
            Stream::socket(socket).map_err(|error| error.to_string())
        });
        let Ok(joined) = joined.recv_timeout(JOIN_AND_DIAL_TIMEOUT) else {
            return log::error!("{call}: not served: its broker connection was not made in time");
        };
        let connection = match joined {
            Ok(connection) => connection,
            Err(cause) => return log::warn!("{call}: not served: {cause}"),
        };
        let server = match connected {
            Ok(server) => server,
            Err(why) => {
                log::warn!("{call}: not served: {target} is not reached: {why}");
                return connection.reset();
            }
        };
        let caller = connection.into_stream();
        match self.send_proxy_line(server, &caller, call, deadline) {
            Ok(server) => log_end(call, relay(caller, server, RelayLimits::default())),
            Err(error) => {
                log::warn!("{call}: not served: {target} does not take the PROXY line: {error}");
                caller.reset();
            }
        }
    }

    /// Sends the caller's address to the server, if configured.
    fn send_proxy_line(
        &self,
        mut server: Stream,
        caller: &Stream,
        call: &IncomingCall,
        deadline: Instant,
    ) -> io::Result<Stream> {
        if self.proxy_protocol {
            let line = proxy_protocol::line(call.address(), caller.peer());
            server.write_all_within(line.as_bytes(), deadline)?;
        }
        Ok(server)
    }
}

fn log_end(call: &IncomingCall, outcome: RelayOutcome) {
    let RelayOutcome { to_right, to_left, end } = outcome;
    let bytes = format!("{to_right} bytes from the caller, {to_left} to it");
    match end {
        RelayEnd::Complete => log::debug!("{call}: ended; {bytes}"),
        RelayEnd::Idle => log::debug!("{call}: ended, idle; {bytes}"),
        RelayEnd::Broken(RelaySide::Left, error) => {
            log::debug!("{call}: broken off by the caller's side: {error}; {bytes}");
        }
        RelayEnd::Broken(RelaySide::Right, error) => {
            log::debug!("{call}: broken off by the server: {error}; {bytes}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_an_address_and_a_target() {
        let route: PublishedPath = "rws://k@h/p \t unix:/run/x".parse().unwrap();
        assert_eq!((route.url.path(), route.target.to_string()), ("/p", "unix:/run/x".to_owned()));
        for text in ["", "rws://SECRET@h/p", "rws://SECRET@h/p a:1 b", "rws://SECRET@h/p x"] {
            let error = text.parse::<PublishedPath>().unwrap_err();
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
