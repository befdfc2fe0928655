//! Brings a caller and its server together.
//!
//! In scope: the two answers, and the connection that follows. Not in scope: how bytes are carried
//! (`relay`).

use std::time::{Duration, Instant};

use super::Shared;
use super::hall::Waiting;
use super::refusal::Refusal;
use super::request::Route;
use super::visit::{Refused, Visitor, left};
use crate::config::IdleLimit;
use crate::remoted::head::webroute_accepted;
use crate::remoted::relay::{End, Limits, relay};
use crate::remoted::stream::Event;

/// Joins a server's connection with the caller that waits for it, and carries their bytes.
pub(super) fn join(
    mut server: Visitor,
    route: &Route,
    shared: &Shared,
) -> Result<(), Box<Refused>> {
    let Some(caller) = shared.hall.meet(&route.meeting) else {
        return Err(server.refused(Refusal::server("no caller waits with its WebRoute-ID")));
    };
    let Waiting { visitor: mut caller, registration, timeout_s, .. } = caller;
    let _joined = shared.joined.take();
    let times = &shared.settings.times;
    let accepted = webroute_accepted(&route.meeting.id);
    let deadline = Instant::now() + times.head;
    // The server's goes first, so that it has it before anything that its caller says after its own.
    if let Err(error) = server.stream.write_all_within(&accepted, deadline) {
        log::warn!(
            "caller {}: not joined on {}: its server left: {}",
            caller.name,
            registration.path,
            left(&error)
        );
        return Ok(());
    }
    let now = Instant::now();
    if !caller.stream.early().is_empty() || caller.stream.wait(Event::Readable, now).is_ok() {
        // Bytes of the caller are here already. A server that says something has read its 101.
        let _ = server.stream.wait(Event::Readable, now + times.head_start);
    }
    if let Err(error) = caller.stream.write_all_within(&accepted, deadline) {
        log::warn!("caller {}: left {}: {}", caller.name, registration.path, left(&error));
        return Ok(());
    }
    log::debug!("caller {}: joined on {} with {}", caller.name, registration.path, server.name);
    let asked = timeout_s.min(route.timeout_s);
    let idle = match shared.settings.config.idle {
        IdleLimit::AsAsked => Some(Duration::from_secs(asked)),
        IdleLimit::Always(limit) => Some(limit),
        IdleLimit::Off => None,
    };
    let path = registration.path.clone();
    // What is held of the registration would outlive it otherwise.
    drop(registration);
    let outcome = relay(caller.stream, server.stream, Limits { idle });
    let (there, back) = (outcome.to_right, outcome.to_left);
    let how = match outcome.end {
        End::Complete => "complete".to_owned(),
        End::Idle => format!("nothing moved for {idle:?}"),
        End::Broken(side, error) => format!("{side:?} failed: {error}"),
    };
    log::debug!("caller {}: ended on {path}: {there} bytes there, {back} back: {how}", caller.name);
    Ok(())
}
