//! Publishing servers that exist: each caller of a path is joined to a local server.
//!
//! In scope: both connections of a caller at once, bounds, what is said when it fails. Not in scope:
//! how callers are heard of (`registrar`).

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::connect::REACH;
use super::notice::Notice;
use super::outbound::Outbound;
use super::proxy_protocol;
use super::publisher::Caller;
use super::registrar::{Desk, Registrar};
use super::registration::Pulse;
use super::relay::{self, End, Limits, relay};
use super::stream::Stream;

use super::url::{Side, Url};
use crate::net::dial::Address;
use crate::sync::permits::Permits;
use crate::sync::throttle::Throttle;
use crate::sync::workers::Workers;

/// Connections at once, unless the program says otherwise.
pub const DEFAULT_MAX_CONNECTIONS: usize = 4096;
/// Callers that are turned away at once, beyond those. Turning one away takes a connection too.
const MAX_REFUSALS: usize = 32;
/// Both connections of a caller are made in this time, and a little.
const MADE: Duration = Duration::from_secs(REACH.as_secs() + 2);

/// A path and the server behind it: an address and a target with white space between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path on a broker.
    pub url: Url,
    /// The local server.
    pub target: Address,
}

impl FromStr for Route {
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

/// How a publication does its work.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether servers are told of their callers' addresses: version 1 of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Connections at once, of all paths together.
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
    /// Publishes from now on. `on_registered` is told of each path when it is registered for the
    /// first time, by its place in `routes`.
    pub fn start(
        routes: Vec<Route>,
        outbound: &Arc<Outbound>,
        options: Options,
        on_registered: impl Fn(usize) + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        for Route { url, .. } in &routes {
            if url.side() != Side::Server {
                return Err(wrong(format!("{url}: what is published begins with rws or rwss")));
            }
        }
        outbound.check(routes.iter().map(|route| &route.url)).map_err(wrong)?;
        let permits = Permits::new(options.max_connections);
        let refusals = Permits::new(MAX_REFUSALS);
        let workers = Arc::new(Workers::new("serve"));
        let mut registrars = Vec::with_capacity(routes.len());
        for (at, Route { url, target }) in routes.into_iter().enumerate() {
            let url = Arc::new(url);
            let on_registered = on_registered.clone();
            let once = std::sync::Once::new();
            let desk = Usher {
                url: Arc::clone(&url),
                outbound: Arc::clone(outbound),
                target: Arc::new(target),
                proxy_protocol: options.proxy_protocol,
                permits: Arc::clone(&permits),
                refusals: Arc::clone(&refusals),
                workers: Arc::clone(&workers),
                full: Throttle::default(),
                on_registered: Box::new(move || once.call_once(|| on_registered(at))),
            };
            registrars.push(Registrar::start(url, Arc::clone(outbound), Pulse::USUAL, desk)?);
        }
        Ok(Self { registrars, permits })
    }

    /// Takes the paths back and gives joined connections this long to end.
    pub fn stop(mut self, drain: Duration) {
        self.registrars.iter_mut().for_each(Registrar::stop);
        super::forward::wait_until_closed(&self.permits, drain);
    }
}

/// Leads each caller of a path to the server behind it.
struct Usher {
    url: Arc<Url>,
    outbound: Arc<Outbound>,
    target: Arc<Address>,
    proxy_protocol: bool,
    permits: Arc<Permits>,
    refusals: Arc<Permits>,
    workers: Arc<Workers>,
    full: Throttle,
    on_registered: Box<dyn Fn() + Send>,
}

impl Desk for Usher {
    fn registered(&self) {
        (self.on_registered)();
    }

    fn called(&self, notice: Notice) {
        let caller =
            Caller { url: Arc::clone(&self.url), outbound: Arc::clone(&self.outbound), notice };
        if let Some(permit) = self.permits.take() {
            let (target, workers) = (Arc::clone(&self.target), Arc::clone(&self.workers));
            let proxy_protocol = self.proxy_protocol;
            self.launch(move || {
                serve(&Arc::new(caller), &target, proxy_protocol, &workers);
                drop(permit);
            });
            return;
        }
        if let Some(more) = self.full.allow() {
            log::warn!(
                "{}: {} is turned away: all places for connections are taken (--max-connections){more}",
                self.url,
                caller.notice.shown
            );
        }
        // Beyond this bound callers are left to the broker's time limit.
        if let Some(permit) = self.refusals.take() {
            self.launch(move || {
                turn_away(&caller);
                drop(permit);
            });
        }
    }
}

impl Usher {
    fn launch(&self, job: impl FnOnce() + Send + 'static) {
        if let Err(error) = self.workers.run(job) {
            log::warn!("{}: a caller is not served: no thread for it: {error}", self.url);
        }
    }
}

/// Joined and closed at once: the only way to tell a caller before its broker loses patience.
fn turn_away(caller: &Caller) {
    if let Ok(connection) = caller.join() {
        connection.reset();
    }
}

/// One caller, from its notice to its end.
fn serve(caller: &Arc<Caller>, target: &Address, proxy_protocol: bool, workers: &Workers) {
    let who = Who { url: &caller.url, caller: &caller.notice.shown };
    let deadline = Instant::now() + REACH;
    let resolver = caller.outbound.resolver();
    // Both at once: neither way is waited for before the other begins.
    let (made, joined) = bounded(1);
    let joining = Arc::clone(caller);
    let begun = workers.run(move || {
        // Nobody waits any more only where this took longer than it can.
        let _ = made.send(joining.join());
    });
    if let Err(error) = begun {
        return log::warn!("{who}: not served: no thread for it: {error}");
    }
    let socket = target.connect(resolver, deadline);
    let connected =
        socket.and_then(|socket| Stream::socket(socket).map_err(|error| error.to_string()));
    let Ok(joined) = joined.recv_timeout(MADE) else {
        return log::error!("{who}: not served: joining it failed without a word");
    };
    let connection = match joined {
        Ok(connection) => connection,
        Err(error) => return log::warn!("{who}: not served: {}", error.cause()),
    };
    let near = match connected {
        Ok(near) => near,
        Err(why) => {
            log::warn!("{who}: not served: {target} is not reached: {why}");
            return connection.reset();
        }
    };
    let far = connection.into_stream();
    match introduce(near, &far, caller, proxy_protocol, deadline) {
        Ok(near) => note_end(&who, relay(far, near, Limits::default())),
        Err(error) => {
            log::warn!("{who}: not served: {target} does not take the PROXY line: {error}");
            far.reset();
        }
    }
}

/// Tells the server who its caller is, where that is wanted.
fn introduce(
    mut near: Stream,
    far: &Stream,
    caller: &Caller,
    proxy_protocol: bool,
    deadline: Instant,
) -> io::Result<Stream> {
    if proxy_protocol {
        let line = proxy_protocol::line(caller.address(), far.peer());
        near.write_all_within(line.as_bytes(), deadline)?;
    }
    Ok(near)
}

fn note_end(who: &Who<'_>, outcome: relay::Outcome) {
    let relay::Outcome { to_right, to_left, end } = outcome;
    let bytes = format!("{to_right} bytes from the caller, {to_left} to it");
    match end {
        End::Complete => log::debug!("{who}: ended; {bytes}"),
        End::Idle => log::debug!("{who}: ended, idle; {bytes}"),
        End::Broken(relay::Side::Left, error) => {
            log::debug!("{who}: broken off by the caller's side: {error}; {bytes}");
        }
        End::Broken(relay::Side::Right, error) => {
            log::debug!("{who}: broken off by the server: {error}; {bytes}");
        }
    }
}

/// How a caller begins a log line.
struct Who<'a> {
    url: &'a Url,
    caller: &'a str,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.caller, self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_an_address_and_a_target() {
        let route: Route = "rws://k@h/p \t unix:/run/x".parse().unwrap();
        assert_eq!((route.url.path(), route.target.to_string()), ("/p", "unix:/run/x".to_owned()));
        for text in ["", "rws://SECRET@h/p", "rws://SECRET@h/p a:1 b", "rws://SECRET@h/p x"] {
            let error = text.parse::<Route>().unwrap_err();
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
