//! Local ports whose connections are tunnelled to a peer's target.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::connection::TunnelConnection;
use crate::config::{Bind, TunnelTarget};
use crate::event::pipe::{Peer, Pipe};
use crate::event::{CODE_FINE, CODE_UNHANDLED, Event, Reply, Verb};
use crate::net::accept::{Acceptor, AtStop, Bound, SocketFile};
use crate::net::reset::set_reset_on_close;
use crate::sync::line_budget::LineBudget;
use crate::sync::permits::{Permit, Permits};
use crate::sync::workers::Workers;

/// Maximum tunnelled connections for all ports of a node.
const MAX_CONNECTIONS: usize = 1024;

fn peer(forward: &TunnelTarget) -> Peer<'_> {
    forward.client.as_deref().map_or(Peer::Server, Peer::Client)
}

/// The ports of a node. Dropping this closes the ports; established connections continue.
#[derive(Default)]
pub(crate) struct TunnelListeners(Vec<Port>);

struct Port {
    address: Bind,
    acceptor: Acceptor,
    file: Option<SocketFile>,
}

impl TunnelListeners {
    /// Listens on another port. Its connections wait at most `wait` for an absent peer.
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
        let log = LineBudget::new(address.to_string());
        let acceptor = Acceptor::start("tcp", listener, AtStop::Refuse, move |socket| {
            // Until both directions have ended in order.
            set_reset_on_close(&socket, true);
            let warn = |cause, why: &str| {
                log.warn(cause, &forward.to_string(), why);
            };
            let Some(permit) = permits.take() else {
                let why = format!("refused a connection: {MAX_CONNECTIONS} are open");
                return warn("all places taken", &why);
            };
            let job = Job {
                log: Arc::clone(&log),
                _permit: permit,
                forward: Arc::clone(&forward),
                pipe: Arc::clone(&pipe),
                wait,
            };
            let spawned = workers.run(move || job.carry(socket));
            if let Err(error) = spawned {
                warn("no thread", &format!("no thread for a connection: {error}"));
            }
        })?;
        self.0.push(Port { address, acceptor, file });
        Ok(())
    }

    /// The bound addresses, in the order in which they were added.
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
    /// Limits the log lines that callers cause: anybody who reaches the port may be one.
    log: Arc<LineBudget>,
    _permit: Permit,
    forward: Arc<TunnelTarget>,
    pipe: Arc<dyn Pipe>,
    wait: Duration,
}

impl Job {
    fn carry(self, socket: Socket) {
        let name = self.forward.to_string();
        let connection = match TunnelConnection::new(Arc::new(socket)) {
            Ok(connection) => connection,
            Err(error) => {
                let why = format!("a connection cannot be set up: {error}");
                self.log.warn("broken connection", &name, &why);
                return;
            }
        };
        match open(self.pipe.as_ref(), &self.forward, &connection, self.wait) {
            Ok(mut reply) => {
                if let Err(error) = connection.write_all(&mut reply.body) {
                    log::debug!("{name}: a connection ended: {error}");
                }
                connection.wait_sent();
            }
            Err(why) => {
                let why = format!("a connection was not tunnelled: {why}");
                self.log.warn("not carried", &name, &why);
                connection.reset();
            }
        }
    }
}

/// Requests the connection from the peer. The reply's body carries the data from the far end.
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
        CODE_UNHANDLED => {
            Err("there is no such target; RP_TCP_TARGETS of the other side names them".to_owned())
        }
        code => Err(why_not(&mut reply).unwrap_or_else(|| format!("it was answered {code}"))),
    }
}

/// The message in a refusal from the peer.
fn why_not(reply: &mut Reply) -> Option<String> {
    /// Maximum bytes read from the reply's body.
    const MAX_BODY_BYTES: usize = 4096;
    let body: serde_json::Value =
        serde_json::from_slice(reply.body.gather(MAX_BODY_BYTES).ok()?).ok()?;
    Some(body.get("message")?.as_str()?.escape_debug().to_string())
}
