//! The requests of a new connection, from its first byte until it registers, joins, waits or closes.
//!
//! In scope: TLS, reading requests, refusing them. Not in scope: classifying a request (`request`), and
//! serving a granted one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use socket2::{Socket, TcpKeepalive};

use super::join::join;
use super::refusal::BrokerRefusal;
use super::register::register;
use super::request::{DEFAULT_TIMEOUT_S, Intent, WebRoute, classify};
use super::state::BrokerState;
use super::visitor::{RefusedVisitor, Visitor};
use super::waiting_callers::WaitingCaller;
use crate::net::accept::strangers::{
    CROWDED, DISPLACED, FIRST_BYTE, SourceAddress, Stranger, has_gone,
};
use crate::net::reset::set_reset_on_close;
use crate::remoted::head::{HeadError, UpgradeRequest, read_request};
use crate::remoted::keys::KeyEntry;
use crate::remoted::notice;
use crate::remoted::stream::Stream;
use crate::sync::permits::Permit;

/// Detects a vanished peer even without an idle limit: after 60 s of silence the operating system sends four
/// probes, 15 s apart.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);
/// The time for a refused connection to read the last response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The cause, for the log, of a connection that gets no thread.
const NO_THREAD: &str = "no thread";
/// The longest path in a log line, in characters.
const MAX_LOGGED_PATH: usize = 100;

/// Gives a new connection a thread, or closes it if a bound is reached. It never blocks.
pub(super) fn admit(socket: Socket, broker: &Arc<BrokerState>) {
    let close = |cause: &'static str, why: &str| {
        broker.strangers_log.warn(cause, "broker", &format!("closed a new connection: {why}"));
    };
    // Possibly a check whether the port is open, so nothing is logged.
    if has_gone(&socket) {
        return;
    }
    let origin = SourceAddress::of(&socket);
    let socket = Arc::new(socket);
    let Some(permit) = broker.connections.take() else {
        set_reset_on_close(&socket, true);
        return close("all places taken", "there are as many as there may be");
    };
    let Some(stranger) = broker.strangers.admit(origin, &socket, Instant::now()) else {
        set_reset_on_close(&socket, true);
        return close(CROWDED, CROWDED);
    };
    let (tls, visited) = (broker.tls(), Arc::clone(broker));
    let started = match tls {
        None => broker.request_workers.run(move || {
            if let Some(visitor) = visitor(socket, permit, stranger, &visited) {
                serve_requests(visitor, &visited);
            }
        }),
        Some(tls) => broker.handshake_workers.run(move || {
            if let Some(visitor) = visitor(socket, permit, stranger, &visited) {
                shake_hands(visitor, tls, visited);
            }
        }),
    };
    if let Err(error) = started {
        close(NO_THREAD, &error.to_string());
    }
}

/// Waits for the first byte of a connection. None if the peer closes it first or stays silent.
fn visitor(
    socket: Arc<Socket>,
    permit: Permit,
    stranger: Stranger<Socket>,
    broker: &BrokerState,
) -> Option<Visitor> {
    // Unix sockets have no such option and need none.
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    let name = peer.map_or("unix".to_owned(), |peer| peer.to_string());
    let has_begun = stranger.wait_first_byte(&socket).ok()?;
    let visitor = Visitor {
        stream: Stream::shared(socket).ok()?,
        name,
        permit,
        place: None,
        stranger: Some(stranger),
    };
    if has_begun {
        return Some(visitor);
    }
    let why = format!("closed: it sent nothing within {FIRST_BYTE:?}");
    broker.strangers_log.warn("silent", &visitor.name, &why);
    None
}

fn shake_hands(visitor: Visitor, tls: Arc<ServerConfig>, broker: Arc<BrokerState>) {
    let deadline = visitor.deadline(broker.settings.times.head);
    let Visitor { stream, name, permit, place, stranger } = visitor;
    match Stream::tls_server(stream, tls, deadline) {
        Err(error) => {
            broker.strangers_log.warn("no TLS", &name, &format!("no TLS: {error}"));
        }
        Ok(mut stream) => {
            if broker.settings.config.original_peers {
                stream.allow_missing_close_notify();
            }
            let attended = Arc::clone(&broker);
            let visitor = Visitor { stream, name, permit, place, stranger };
            if let Err(error) =
                broker.request_workers.run(move || serve_requests(visitor, &attended))
            {
                let why = format!("closed a new connection: {error}");
                broker.strangers_log.warn(NO_THREAD, "broker", &why);
            }
        }
    }
}

/// Serves requests until one is granted, which takes the connection, or the connection closes.
fn serve_requests(mut visitor: Visitor, broker: &Arc<BrokerState>) {
    loop {
        let deadline = visitor.deadline(broker.settings.times.head);
        let read = read_request(&mut visitor.stream, deadline);
        let request = match (read, visitor.overdue(broker.settings.times.keyless)) {
            (Ok(request), None) => request,
            (Err(error @ HeadError::TooSlow), _) | (Err(error), None) => {
                return refuse_head(visitor, &error, broker);
            }
            // Also after a complete request: a peer may send them without a pause.
            (_, Some(why)) => {
                broker.strangers_log.warn("no key", &visitor.name, &format!("closed: {why}"));
                return hang_up(visitor, deadline);
            }
        };
        if broker.settings.config.is_behind_proxy
            && let Some(address) = real_address(&request)
        {
            visitor.name = address.to_string();
        }
        let Err(refused) = act_on(visitor, &request, broker) else { return };
        let refusal = refused.refusal;
        visitor = refused.visitor;
        let Visitor { name, .. } = &visitor;
        let why = format!("refused on {}: {}", logged_path(&request), refusal.reason);
        if refusal.is_stranger {
            broker.strangers_log.warn("wrong key", name, &why);
        } else {
            log::warn!("{name}: {why}");
        }
        let answer = refusal.answer(request.method == "HEAD");
        let sent = visitor.stream.write_all_within(&answer, deadline);
        let is_kept_open = refusal.keeps_open
            && !request.has_body()
            && !request.fields.has_token("Connection", "close");
        if sent.is_err() || !is_kept_open {
            return hang_up(visitor, deadline);
        }
    }
}

/// Serves a granted request, which takes the visitor, or returns the refusal.
fn act_on(
    mut visitor: Visitor,
    request: &UpgradeRequest,
    broker: &Arc<BrokerState>,
) -> Result<(), Box<RefusedVisitor>> {
    let classified = classify(request, &broker.keys());
    let has_key = !classified.as_ref().is_err_and(|refusal| refusal.is_stranger);
    if has_key && !visitor.show_key() {
        broker.strangers_log.warn(DISPLACED, &visitor.name, &format!("closed: {DISPLACED}"));
        return Ok(());
    }
    let (key, intent) = match classified {
        Ok(classified) => classified,
        Err(refusal) => return Err(visitor.refused(refusal)),
    };
    // An earlier request of this connection may have had another key.
    drop(visitor.place.take());
    visitor.place = broker.places.take(key.name());
    if visitor.place.is_none() {
        return Err(visitor.refused(BrokerRefusal::key_full()));
    }
    match intent {
        Intent::Register(handshake) => register(visitor, key, request.path(), handshake, broker),
        Intent::Join(route) => join(visitor, &route, broker),
        Intent::Call(route) => call(visitor, key, request.path(), route, broker),
    }
}

/// Lets a caller wait for its server. Like the original it looks for the server first: if none is
/// registered, nothing else about the request matters.
fn call(
    visitor: Visitor,
    key: Arc<KeyEntry>,
    path: &str,
    route: Result<WebRoute, BrokerRefusal>,
    broker: &BrokerState,
) -> Result<(), Box<RefusedVisitor>> {
    let Some(registration) = broker.waiting_callers.find(path) else {
        let mut refusal = BrokerRefusal::no_destination();
        // For the log: what is wrong with the request itself.
        if let Err(wrong) = route {
            refusal.reason = wrong.reason;
        }
        return Err(visitor.refused(refusal));
    };
    let WebRoute { rendezvous, timeout_s, .. } = match route {
        Ok(route) => route,
        Err(refusal) => return Err(visitor.refused(refusal)),
    };
    let asked = timeout_s.max(DEFAULT_TIMEOUT_S);
    let message = notice::message(visitor.name.clone(), rendezvous.id.clone(), asked);
    let deadline = Instant::now() + broker.settings.times.wait;
    let waiting = WaitingCaller { visitor, rendezvous, key, registration, timeout_s, deadline };
    broker.waiting_callers.wait(waiting, message)
}

fn refuse_head(mut visitor: Visitor, error: &HeadError, broker: &BrokerState) {
    let reason = error.to_string();
    let (cause, refusal) = match error {
        HeadError::Nothing => return,
        HeadError::Ended | HeadError::Failed(_) => ("broken connection", None),
        HeadError::TooSlow => ("too slow", Some(BrokerRefusal::too_slow(reason.clone()))),
        HeadError::TooLarge => ("too large", Some(BrokerRefusal::too_large(reason.clone()))),
        HeadError::Malformed(_) => ("no HTTP", Some(BrokerRefusal::malformed(reason.clone()))),
    };
    broker.strangers_log.warn(cause, &visitor.name, &format!("refused: {reason}"));
    if let Some(refusal) = refusal {
        let deadline = Instant::now() + broker.settings.times.probe;
        let _ = visitor.stream.write_all_within(&refusal.answer(false), deadline);
        hang_up(visitor, deadline);
    }
}

/// Closes so that the last response still arrives.
fn hang_up(mut visitor: Visitor, deadline: Instant) {
    visitor.stream.finish_within(deadline.min(Instant::now() + CLOSE_TIMEOUT));
}

/// The address of the requesting peer, as reported by the web server in front.
fn real_address(request: &UpgradeRequest) -> Option<SocketAddr> {
    let find = |name| request.fields.find(name).map(str::trim);
    let port = find("X-Real-Port").and_then(|port| port.parse().ok()).unwrap_or(0);
    Some(SocketAddr::new(find("X-Real-IP")?.parse().ok()?, port))
}

/// The path for the log: as sent, truncated, without its query.
fn logged_path(request: &UpgradeRequest) -> String {
    request.path().chars().take(MAX_LOGGED_PATH).collect()
}
