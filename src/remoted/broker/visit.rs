//! A new connection, from its first byte until it is clear what becomes of it.
//!
//! In scope: TLS, reading requests, refusing them. Not in scope: what follows where a request is
//! good.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use serde_json::json;
use socket2::{Socket, TcpKeepalive};

use super::hall::Waiting;
use super::refusal::Refusal;
use super::request::{Route, TIMEOUT_S, Wish, judge};
use super::{Shared, join, server};
use crate::net::accept::strangers::{
    CROWDED, DISPLACED, FIRST_BYTE, SourceAddress, Stranger, has_gone, reset_when_closed,
};
use crate::remoted::head::{HeadError, Request, read_request};
use crate::remoted::keys::Key;
use crate::remoted::stream::Stream;
use crate::sync::permits::Permit;

/// So that a peer that vanished is noticed although no limit for silence is set: after 60 s without
/// a byte the operating system asks four times, every 15 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);
/// The longest path that a log line shows, in characters.
const SHOWN_PATH: usize = 100;

/// A connection that has not been joined yet.
pub(super) struct Visitor {
    pub stream: Stream,
    /// Its address, for servers and the log.
    pub name: String,
    pub permit: Permit,
    /// Until it has shown a good key.
    pub stranger: Option<Stranger<Socket>>,
}

impl Visitor {
    /// It has a good key, and no longer the time of those without. False if it was too late for that.
    fn show_key(&mut self) -> bool {
        self.stranger.take().is_none_or(Stranger::leave)
    }

    /// When what it does next has to be done that may take so long.
    fn deadline(&self, time: Duration) -> Instant {
        let deadline = Instant::now() + time;
        self.stranger.as_ref().map_or(deadline, |stranger| stranger.until.min(deadline))
    }

    /// Why it has to go, if it has.
    fn overdue(&self, shared: &Shared) -> Option<String> {
        let stranger = self.stranger.as_ref()?;
        if stranger.is_displaced() {
            return Some(DISPLACED.to_owned());
        }
        let time = shared.settings.times.keyless;
        (stranger.until <= Instant::now()).then(|| format!("it showed no good key within {time:?}"))
    }

    /// It does not get what it asked for.
    pub fn refused(self, refusal: Refusal) -> Box<Refused> {
        Box::new(Refused { visitor: self, refusal })
    }
}

/// A connection that did not get what it asked for.
pub(super) struct Refused {
    visitor: Visitor,
    refusal: Refusal,
}

/// Gives a new connection a thread, or closes it where there is no place. It never waits.
pub(super) fn admit(socket: Socket, shared: &Arc<Shared>) {
    let crowded = |why: &str| {
        if let Some(more) = shared.crowded.allow() {
            log::warn!("closed a new connection: {why}{more}");
        }
    };
    // As whoever only looks whether the port is open: no words about it.
    if has_gone(&socket) {
        return;
    }
    let origin = SourceAddress::of(&socket);
    let socket = Arc::new(socket);
    let Some(permit) = shared.connections.take() else {
        reset_when_closed(&socket);
        return crowded("there are as many as there may be");
    };
    let Some(stranger) = shared.strangers.admit(origin, &socket, Instant::now()) else {
        reset_when_closed(&socket);
        return crowded(CROWDED);
    };
    let (tls, visited) = (shared.tls(), Arc::clone(shared));
    let started = match tls {
        None => shared.attendants.run(move || {
            if let Some(visitor) = visitor(socket, permit, stranger, &visited) {
                attend(visitor, &visited);
            }
        }),
        Some(tls) => shared.shakers.run(move || {
            if let Some(visitor) = visitor(socket, permit, stranger, &visited) {
                shake_hands(visitor, tls, visited);
            }
        }),
    };
    if let Err(error) = started {
        crowded(&error.to_string());
    }
}

/// A connection whose first byte has come; none where it went away before, or says nothing.
fn visitor(
    socket: Arc<Socket>,
    permit: Permit,
    stranger: Stranger<Socket>,
    shared: &Shared,
) -> Option<Visitor> {
    // A Unix socket has no such option and needs none.
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    let name = peer.map_or("unix".to_owned(), |peer| peer.to_string());
    let has_begun = stranger.wait_first_byte(&socket).ok()?;
    let visitor =
        Visitor { stream: Stream::shared(socket).ok()?, name, permit, stranger: Some(stranger) };
    if has_begun {
        return Some(visitor);
    }
    let name = &visitor.name;
    complain(shared, name, format_args!("{name}: closed: it sent nothing within {FIRST_BYTE:?}"));
    None
}

fn shake_hands(visitor: Visitor, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    let deadline = visitor.deadline(shared.settings.times.head);
    let Visitor { stream, name, permit, stranger } = visitor;
    match Stream::tls_server(stream, tls, deadline) {
        Err(error) => complain(&shared, &name, format_args!("{name}: no TLS: {error}")),
        Ok(stream) => {
            let attended = Arc::clone(&shared);
            let visitor = Visitor { stream, name, permit, stranger };
            if let Err(error) = shared.attendants.run(move || attend(visitor, &attended)) {
                log::warn!("closed a new connection: {error}");
            }
        }
    }
}

/// Takes requests until one of them makes the connection something else, or it ends.
fn attend(mut visitor: Visitor, shared: &Arc<Shared>) {
    loop {
        let deadline = visitor.deadline(shared.settings.times.head);
        let read = read_request(&mut visitor.stream, deadline);
        let request = match (read, visitor.overdue(shared)) {
            (Ok(request), None) => request,
            (Err(error @ HeadError::TooSlow), _) | (Err(error), None) => {
                return refuse_head(visitor, &error, shared);
            }
            // Also where a request has come: it may have sent them without a pause.
            (_, Some(why)) => {
                complain(shared, &visitor.name, format_args!("{}: closed: {why}", visitor.name));
                return hang_up(visitor, deadline);
            }
        };
        if shared.settings.config.is_behind_proxy
            && let Some(address) = real_address(&request)
        {
            visitor.name = address.to_string();
        }
        let Err(refused) = fulfil(visitor, &request, shared) else { return };
        let refusal = refused.refusal;
        visitor = refused.visitor;
        let Visitor { name, .. } = &visitor;
        let line = format!("{name}: refused on {}: {}", shown(&request), refusal.reason);
        if refusal.is_stranger {
            complain(shared, name, format_args!("{line}"));
        } else {
            log::warn!("{line}");
        }
        let answer = refusal.answer(request.method == "HEAD");
        let sent = visitor.stream.write_all_within(&answer, deadline);
        let goes_on = refusal.keeps_open
            && !request.has_body()
            && !request.fields.has_token("Connection", "close");
        if sent.is_err() || !goes_on {
            return hang_up(visitor, deadline);
        }
    }
}

/// Does what a request asks for, which takes the visitor, or says why not.
fn fulfil(
    mut visitor: Visitor,
    request: &Request,
    shared: &Arc<Shared>,
) -> Result<(), Box<Refused>> {
    let judged = judge(request, &shared.keys());
    let has_key = !judged.as_ref().is_err_and(|refusal| refusal.is_stranger);
    if has_key && !visitor.show_key() {
        complain(shared, &visitor.name, format_args!("{}: closed: {DISPLACED}", visitor.name));
        return Ok(());
    }
    let (key, wish) = match judged {
        Ok(judged) => judged,
        Err(refusal) => return Err(visitor.refused(refusal)),
    };
    match wish {
        Wish::Register(handshake) => {
            server::register(visitor, key, request.path(), handshake, shared)
        }
        Wish::Join(route) => join::join(visitor, &route, shared),
        Wish::Call(route) => call(visitor, key, request.path(), route, shared),
    }
}

/// Has a caller wait for its server. Like the original it looks for that first: while nobody is
/// registered, nothing else about the request matters.
fn call(
    visitor: Visitor,
    key: Arc<Key>,
    path: &str,
    route: Result<Route, Refusal>,
    shared: &Shared,
) -> Result<(), Box<Refused>> {
    let Some(registration) = shared.hall.find(path) else {
        return Err(visitor.refused(Refusal::no_destination()));
    };
    let Route { meeting, timeout_s } = match route {
        Ok(route) => route,
        Err(refusal) => return Err(visitor.refused(refusal)),
    };
    let notice = json!({
        "ipaddr": visitor.name,
        "id": meeting.id,
        "timeout": timeout_s.max(TIMEOUT_S),
    });
    let deadline = Instant::now() + shared.settings.times.wait;
    let waiting = Waiting { visitor, meeting, key, registration, timeout_s, deadline };
    shared.hall.wait(waiting, notice.to_string())
}

fn refuse_head(mut visitor: Visitor, error: &HeadError, shared: &Shared) {
    let reason = error.to_string();
    let refusal = match error {
        HeadError::Nothing => return,
        HeadError::Ended | HeadError::Failed(_) => None,
        HeadError::TooSlow => Some(Refusal::too_slow(reason.clone())),
        HeadError::TooLarge => Some(Refusal::too_large(reason.clone())),
        HeadError::Malformed(_) => Some(Refusal::malformed(reason.clone())),
    };
    complain(shared, &visitor.name, format_args!("{}: refused: {reason}", visitor.name));
    if let Some(refusal) = refusal {
        let deadline = Instant::now() + shared.settings.times.probe;
        let _ = visitor.stream.write_all_within(&refusal.answer(false), deadline);
        hang_up(visitor, deadline);
    }
}

/// Closes so that the last answer arrives: closing with bytes unread would send a reset, which may
/// overtake it.
fn hang_up(mut visitor: Visitor, deadline: Instant) {
    const MAX_DISCARDED: usize = 256 * 1024;
    let deadline = deadline.min(Instant::now() + Duration::from_secs(1));
    let _ = visitor.stream.close_writing_within(deadline);
    let mut buffer = [0; 1024];
    let mut discarded = 0;
    while discarded < MAX_DISCARDED {
        match visitor.stream.read_within(&mut buffer, deadline) {
            Ok(count) if count > 0 => discarded += count,
            _ => return,
        }
    }
}

/// The address of whoever made a request, as the web server in front says it.
fn real_address(request: &Request) -> Option<SocketAddr> {
    let find = |name| request.fields.find(name).map(str::trim);
    let port = find("X-Real-Port").and_then(|port| port.parse().ok()).unwrap_or(0);
    Some(SocketAddr::new(find("X-Real-IP")?.parse().ok()?, port))
}

/// A line of the log, but not a flood of them from one address.
fn complain(shared: &Shared, name: &str, line: std::fmt::Arguments<'_>) {
    let address = name.rsplit_once(':').map_or(name, |(address, _)| address);
    if let Some(more) = shared.refusals.allow(address) {
        log::warn!("{line}{more}");
    }
}

/// A path for the log: as it is, but not endless, and without the query.
fn shown(request: &Request) -> String {
    request.path().chars().take(SHOWN_PATH).collect()
}

/// The error of a stream as the word for it.
pub(super) fn left(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "it took too long".to_owned(),
        _ => error.to_string(),
    }
}
