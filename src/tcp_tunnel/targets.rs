//! The named servers on this side that peers may reach.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::TunnelConnection;
use crate::event::{CODE_UNHANDLED, Event, Reply, Verb, errors};
use crate::handler::{Context, Failure, Handler};
use crate::net::dial::{Address, Resolver};
use crate::sync::workers::Workers;

/// Timeout for connecting to a target.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers `connect` events by connecting to the target named by the noun; passes everything else
/// to the inner handler.
pub(crate) struct Targets {
    targets: BTreeMap<String, Address>,
    resolver: Resolver,
    workers: Workers,
    inner: Arc<dyn Handler>,
}

impl Targets {
    /// Handles these targets, and passes everything else to `inner`.
    pub fn new(targets: BTreeMap<String, Address>, inner: Arc<dyn Handler>) -> Self {
        Self { targets, resolver: Resolver::default(), workers: Workers::new("carry-to"), inner }
    }

    fn connect(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        let name = event.target.noun();
        let Some(address) = self.targets.get(name) else {
            let message =
                format!("there is no target {name:?} here; RP_TCP_TARGETS of this side names them");
            return Ok(errors::UNHANDLED.reply(&message).with_code(CODE_UNHANDLED));
        };
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
        // The reply is sent from this thread while the worker receives the request's body.
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

    fn passes_on(&self, event: &Event) -> bool {
        event.verb != Verb::Connect && self.inner.passes_on(event)
    }

    fn stop(&self) {
        self.inner.stop();
    }
}
