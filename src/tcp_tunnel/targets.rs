//! The servers of this side that peers may reach, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::TunnelConnection;
use crate::event::{Event, Reply, Verb, errors};
use crate::handler::{Context, Failure, Handler};
use crate::net::dial::{Address, Resolver};
use crate::sync::workers::Workers;

/// How long a target may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers `connect` with a connection to the target that the noun names, and leaves all else to
/// another handler.
pub(crate) struct Targets {
    targets: BTreeMap<String, Address>,
    resolver: Resolver,
    workers: Workers,
    inner: Arc<dyn Handler>,
}

impl Targets {
    /// These targets before `inner`.
    pub fn new(targets: BTreeMap<String, Address>, inner: Arc<dyn Handler>) -> Self {
        Self { targets, resolver: Resolver::default(), workers: Workers::new("carry-to"), inner }
    }

    fn connect(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        let name = event.target.noun();
        let Some(address) = self.targets.get(name) else { return Err(Failure::Unhandled) };
        let unreachable = |why: String| {
            log::warn!(
                "{}: no connection to {name} at {address} (request {}): {why}",
                context.peer.name,
                context.request_id
            );
            let message = format!("{name} cannot be reached: {why}");
            errors::UNREACHABLE.reply(&message)
        };
        let socket = match address.connect(&self.resolver, Instant::now() + CONNECT_TIMEOUT) {
            Ok(socket) => socket,
            Err(why) => return Ok(unreachable(why)),
        };
        let connection = TunnelConnection::new(Arc::new(socket))?;
        connection.set_established();
        let reply = Reply::new("", connection.body(Vec::new()));
        let (mut body, name) = (event.body.take_out(), name.to_owned());
        let peer = context.peer.name.clone();
        // The reply goes out from this thread while the body comes in.
        self.workers.run(move || {
            if let Err(error) = connection.write_all(&mut body) {
                log::debug!("{peer}: connection to {name}: {error}");
            }
        })?;
        Ok(reply)
    }
}

impl Handler for Targets {
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        match event.verb {
            Verb::Connect => self.connect(context, event),
            _ => self.inner.handle(context, event),
        }
    }

    fn stop(&self) {
        self.inner.stop();
    }
}
