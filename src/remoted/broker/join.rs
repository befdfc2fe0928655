//! Joins a caller and its server.
//!
//! In scope: the two answers, and the connection that follows. Not in scope: how bytes are carried
//! (`relay`).

use std::io;
use std::time::{Duration, Instant};

use super::refusal::BrokerRefusal;
use super::request::WebRoute;
use super::state::BrokerState;
use super::visitor::{RefusedVisitor, Visitor};
use super::waiting_callers::WaitingCaller;
use crate::config::IdleLimit;
use crate::remoted::head::webroute_accepted;
use crate::remoted::relay::{RelayEnd, RelayLimits, relay};
use crate::remoted::stream::ReadyEvent;

/// Joins a server's connection with its waiting caller and relays their bytes.
pub(super) fn join(
    mut server: Visitor,
    route: &WebRoute,
    broker: &BrokerState,
) -> Result<(), Box<RefusedVisitor>> {
    let Some(caller) = broker.waiting_callers.take_waiting(&route.rendezvous) else {
        return Err(server.refused(BrokerRefusal::server("no caller waits with its WebRoute-ID")));
    };
    let WaitingCaller { visitor: mut caller, registration, timeout_s, .. } = caller;
    let _joined = broker.joined.take();
    let times = &broker.settings.times;
    let accepted = webroute_accepted(&route.rendezvous.id);
    // From its 101 on, an end that is not the other side's is no regular end.
    server.stream.set_reset_on_close(true);
    let deadline = Instant::now() + times.head;
    // The server's goes first, so that it arrives before anything that the caller sends after its own.
    if let Err(error) = server.stream.write_all_within(&accepted, deadline) {
        log::warn!(
            "caller {}: not joined on {}: its server left: {}",
            caller.name,
            registration.path,
            reason(&error)
        );
        return Ok(());
    }
    let now = Instant::now();
    if !caller.stream.early().is_empty() || caller.stream.wait(ReadyEvent::Readable, now).is_ok() {
        // The caller has sent bytes already. If the server sends something, it has read its 101.
        let _ = server.stream.wait(ReadyEvent::Readable, now + times.head_start);
    }
    caller.stream.set_reset_on_close(true);
    if let Err(error) = caller.stream.write_all_within(&accepted, deadline) {
        log::warn!("caller {}: left {}: {}", caller.name, registration.path, reason(&error));
        return Ok(());
    }
    log::debug!("caller {}: joined on {} with {}", caller.name, registration.path, server.name);
    let asked = timeout_s.min(route.timeout_s);
    let idle = match broker.settings.config.idle {
        IdleLimit::AsAsked => Some(Duration::from_secs(asked)),
        IdleLimit::Always(limit) => Some(limit),
        IdleLimit::Off => None,
    };
    let path = registration.path.clone();
    // Otherwise the registration would stay in memory as long as the joined connection.
    drop(registration);
    let outcome = relay(caller.stream, server.stream, RelayLimits { idle });
    let (there, back) = (outcome.to_right, outcome.to_left);
    let how = match outcome.end {
        RelayEnd::Complete => "complete".to_owned(),
        RelayEnd::Idle => format!("nothing moved for {idle:?}"),
        RelayEnd::Broken(side, error) => format!("{side:?} failed: {error}"),
    };
    log::debug!("caller {}: ended on {path}: {there} bytes there, {back} back: {how}", caller.name);
    Ok(())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "it took too long".to_owned(),
        _ => error.to_string(),
    }
}
