//! Joins a caller and its server.
//!
//! In scope: the two answers, and the connection that follows. Not in scope: how bytes are carried
//! (`relay`).

use std::io;
use std::time::{Duration, Instant};

use super::first_bytes::wait_until_safe;
use super::refusal::BrokerRefusal;
use super::request::WebRoute;
use super::state::BrokerState;
use super::visitor::{RefusedVisitor, Visitor};
use super::waiting_callers::WaitingCaller;
use crate::config::IdleLimit;
use crate::remoted::head::webroute_accepted;
use crate::remoted::relay::{RelayEnd, RelayLimits, RelayOutcome, relay};

/// Joins a server's connection with its waiting caller and relays their bytes.
pub(super) fn join(
    mut server: Visitor,
    route: &WebRoute,
    broker: &BrokerState,
) -> Result<(), Box<RefusedVisitor>> {
    let Some(caller) = broker.waiting_callers.take_waiting(&route.rendezvous) else {
        return Err(server.refused(BrokerRefusal::server(
            "no caller waits with its WebRoute-ID; a caller has no key of servers",
        )));
    };
    let WaitingCaller { visitor: mut caller, registration, timeout_s, .. } = caller;
    let _joined = broker.joined.take();
    let times = &broker.settings.times;
    let accepted = webroute_accepted(&route.rendezvous.id);
    // From its 101 on, an end that is not the other side's is no regular end.
    server.stream.set_reset_on_close(true);
    let deadline = Instant::now() + times.head;
    if let Err(error) = server.stream.write_all_within(&accepted, deadline) {
        log::warn!(
            "caller {}: not joined on {}: its server left: {}",
            caller.name,
            registration.path,
            reason(&error)
        );
        return Ok(());
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
    let has_begun = route.keeps_early
        || wait_until_safe(&caller, &server, &registration, times.head_start, idle);
    // Otherwise the registration would stay in memory as long as the joined connection.
    drop(registration);
    let outcome = match has_begun {
        true => relay(caller.stream, server.stream, RelayLimits { idle }),
        false => RelayOutcome { to_right: 0, to_left: 0, end: RelayEnd::Idle },
    };
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
