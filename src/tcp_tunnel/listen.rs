//! Local ports whose connections go to a target of a peer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::connection::TunnelConnection;
use crate::config::{Bind, TunnelTarget};
use crate::event::pipe::{Peer, Pipe};
use crate::event::{CODE_FINE, CODE_UNHANDLED, Event, Reply, Verb};
use crate::net::accept::{Acceptor, Bound, SocketFile};
use crate::sync::permits::{Permit, Permits};
use crate::sync::workers::Workers;

/// Most connections that are carried for the ports of a node.
const MAX_CONNECTIONS: usize = 1024;

fn peer(forward: &TunnelTarget) -> Peer<'_> {
    forward.client.as_deref().map_or(Peer::Server, Peer::Client)
}

/// The ports of a node. Dropping them closes them; connections that are carried go on.
#[derive(Default)]
pub(crate) struct TunnelListeners(Vec<Port>);

struct Port {
    address: Bind,
    acceptor: Acceptor,
    file: Option<SocketFile>,
}

impl TunnelListeners {
    /// Accepts on one more port. A connection waits for at most `wait` for a peer that is away.
    pub fn add(
        &mut self,
        bound: Bound,
        forward: TunnelTarget,
        pipe: Arc<dyn Pipe>,
        wait: Duration,
    ) -> io::Result<()> {
        let permits = Permits::new(MAX_CONNECTIONS);
        let forward = Arc::new(forward);
        let workers = Workers::new("carry-from");
        let Bound { socket: listener, address, file, handed: _ } = bound;
        let acceptor = Acceptor::start("tcp", listener, move |socket| {
            let Some(permit) = permits.take() else {
                log::warn!("{forward}: refused a connection: {MAX_CONNECTIONS} are open");
                return;
            };
            let job = Job {
                _permit: permit,
                forward: Arc::clone(&forward),
                pipe: Arc::clone(&pipe),
                wait,
            };
            let spawned = workers.run(move || job.carry(socket));
            if let Err(error) = spawned {
                log::warn!("{forward}: no thread for a connection: {error}");
            }
        })?;
        self.0.push(Port { address, acceptor, file });
        Ok(())
    }

    /// The real addresses, in the order in which they were added.
    pub fn addresses(&self) -> impl Iterator<Item = &Bind> {
        self.0.iter().map(|port| &port.address)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.acceptor.stop();
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

/// One connection.
struct Job {
    _permit: Permit,
    forward: Arc<TunnelTarget>,
    pipe: Arc<dyn Pipe>,
    wait: Duration,
}

impl Job {
    fn carry(self, socket: Socket) {
        let name = &self.forward;
        let connection = match TunnelConnection::new(Arc::new(socket)) {
            Ok(connection) => connection,
            Err(error) => return log::warn!("{name}: a connection cannot be set up: {error}"),
        };
        match open(self.pipe.as_ref(), &self.forward, &connection, self.wait) {
            Ok(mut reply) => {
                if let Err(error) = connection.write_all(&mut reply.body) {
                    log::debug!("{name}: a connection ended: {error}");
                }
                connection.wait_sent();
            }
            Err(why) => {
                log::warn!("{name}: a connection was not carried: {why}");
                connection.reset();
            }
        }
    }
}

/// Asks the peer for a connection. The reply's body is what its other end sends.
fn open(
    pipe: &dyn Pipe,
    forward: &TunnelTarget,
    connection: &Arc<TunnelConnection>,
    wait: Duration,
) -> Result<Reply, String> {
    let mut event =
        Event::new(Verb::Connect, &forward.target).map_err(|error| error.to_string())?;
    event.body = connection.body(Vec::new());
    let asked = pipe.request(peer(forward), &mut event, wait, connection.as_ref());
    let mut reply = asked.map_err(|error| error.to_string())?;
    match reply.code {
        CODE_FINE => Ok(reply),
        CODE_UNHANDLED => Err("there is no such target".to_owned()),
        code => Err(why_not(&mut reply).unwrap_or_else(|| format!("it was answered {code}"))),
    }
}

/// The message in a peer's refusal.
fn why_not(reply: &mut Reply) -> Option<String> {
    /// Most bytes of the reply's body that are read.
    const MAX_BODY_BYTES: usize = 4096;
    let body: serde_json::Value =
        serde_json::from_slice(reply.body.gather(MAX_BODY_BYTES).ok()?).ok()?;
    Some(body.get("message")?.as_str()?.escape_debug().to_string())
}
