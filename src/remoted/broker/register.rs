//! Registering a server: its path, its session, its end.
//!
//! In scope: taking a path, also from the server's own dead connection. Not in scope: waiting callers
//! (`waiting_callers`), and the session (`session`).

use std::sync::Arc;
use std::time::Instant;

use super::refusal::BrokerRefusal;
use super::registered_server::{EvictionReason, RegisteredServer, SessionInbox};
use super::request::Handshake;
use super::session::{Session, SessionEnd};
use super::state::BrokerState;
use super::visitor::{RefusedVisitor, Visitor};
use super::waiting_callers::{PathUnavailable, WaitingCallers, log_closed};
use crate::remoted::head::websocket_accepted;
use crate::remoted::keys::KeyEntry;

/// Gives a server its path and serves it until its session ends, or returns the refusal.
pub(super) fn register(
    visitor: Visitor,
    key: Arc<KeyEntry>,
    path: &str,
    handshake: Result<Handshake, BrokerRefusal>,
    broker: &BrokerState,
) -> Result<(), Box<RefusedVisitor>> {
    let (server, inbox) = match RegisteredServer::new(path, key) {
        Ok(made) => made,
        Err(error) => return Err(visitor.refused(BrokerRefusal::full(&error.to_string()))),
    };
    // The original checks the path first.
    let handshake = match (handshake, broker.waiting_callers.find(path)) {
        (Ok(handshake), _) => handshake,
        (Err(_), Some(_)) => {
            return Err(visitor.refused(BrokerRefusal::server("another server has this path")));
        }
        (Err(refusal), None) => return Err(visitor.refused(refusal)),
    };
    if let Err(refusal) = take_path(&server, broker) {
        return Err(visitor.refused(refusal));
    }
    serve(visitor, &handshake, &server, inbox, broker);
    Ok(())
}

fn take_path(new: &Arc<RegisteredServer>, broker: &BrokerState) -> Result<(), BrokerRefusal> {
    let waiting_callers = &broker.waiting_callers;
    let holder = match waiting_callers.register(new) {
        Ok(()) => return Ok(()),
        Err(PathUnavailable::Full(why)) => return Err(BrokerRefusal::full(why)),
        Err(PathUnavailable::Taken(holder)) => holder,
    };
    if !holder.key.is(&new.key) {
        return Err(BrokerRefusal::server("a server with another key has this path"));
    }
    if holder.is_alive(broker.settings.times.probe) {
        return Err(BrokerRefusal::server("a live server has this path"));
    }
    // The holder may have ended by itself meanwhile.
    if waiting_callers.replace(&holder, new) || waiting_callers.register(new).is_ok() {
        holder.end(EvictionReason::Replaced);
        return Ok(());
    }
    Err(BrokerRefusal::server("another server took this path"))
}

fn serve(
    visitor: Visitor,
    handshake: &Handshake,
    server: &Arc<RegisteredServer>,
    inbox: SessionInbox,
    broker: &BrokerState,
) {
    let Visitor { mut stream, name, permit, .. } = visitor;
    let times = &broker.settings.times;
    let path = &server.path;
    let accepted = websocket_accepted(&handshake.key);
    let _registered = broker.registered.take();
    let held = HeldPath { server, waiting_callers: &broker.waiting_callers };
    let mut session = None;
    let end = match stream.write_all_within(&accepted, Instant::now() + times.head) {
        Err(error) => SessionEnd::WebSocket(error.into()),
        Ok(()) => {
            log::info!("server {name}: registered {path} with key {}", server.key.name());
            session.insert(Session::new(stream, server, inbox, times)).run()
        }
    };
    drop(held);
    log::info!("server {name}: {path} is free: {end}");
    // Last, because the server may take a moment to read it.
    if let (Some(session), Some(frame)) = (session, end.close_frame()) {
        session.close(&frame);
    }
    drop(permit);
}

/// A path that a server holds. Dropping it, also in a panic, frees the path and closes the callers that
/// wait for the server.
struct HeldPath<'a> {
    server: &'a Arc<RegisteredServer>,
    waiting_callers: &'a WaitingCallers,
}

impl Drop for HeldPath<'_> {
    fn drop(&mut self) {
        for caller in self.waiting_callers.unregister(self.server) {
            log_closed(caller, "its server left");
        }
    }
}
