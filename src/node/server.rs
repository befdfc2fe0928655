//! The server: accepts pipes, authenticates clients, and keeps the newest link of each name.

mod connections;
mod duplicate_keys;
mod refused;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::core::Core;
use super::running::{CLOSE_TIMEOUT, RunningNode};
use super::{Builder, StartError};
use crate::config::{Bind, ServerConfig};
use crate::event::pipe::{Peer, RequestError};
use crate::event::{Event, Reply};
use crate::handler::{Handler, Role};
use crate::net::accept::{Acceptor, AtStop, BACKLOG, BindError, Bound, bind_tcp};
use connections::Connections;

/// A running server. Dropping it stops it without finishing requests in flight.
pub struct Server {
    node: RunningNode,
    pipe_address: SocketAddr,
    acceptor: Acceptor,
    connections: Arc<Connections>,
    stopped: bool,
}

impl Server {
    /// Binds both ports and starts serving; short for [`Server::builder`] with only a handler.
    pub fn start(config: &ServerConfig, handler: Arc<dyn Handler>) -> Result<Self, StartError> {
        Self::builder(config.clone()).shared_handler(handler).start()
    }

    /// A builder for a server with this configuration.
    pub fn builder(config: ServerConfig) -> Builder<ServerConfig> {
        Builder::new(config)
    }

    pub(super) fn launch(builder: Builder<ServerConfig>) -> Result<Self, StartError> {
        let Builder { config, handler, handler_name, listeners, sockets } = builder;
        let (listener, pipe_address, handed) = match sockets.pipe {
            Some(Bound { socket, address: Bind::Tcp(address), .. }) => (socket, address, true),
            _ => {
                let (socket, address) = listen(config.pipe_bind).map_err(|error| {
                    StartError::Pipe(BindError::of(&Bind::Tcp(config.pipe_bind), &error))
                })?;
                (socket, address, false)
            }
        };
        let core = Core::new(Role::Server, &config.node, config.lookup_hosts, handler, listeners)?;
        // Clients see a new certificate when they next connect.
        let on_new_certificate = Box::new(|| ());
        let connections = Arc::new(Connections::new(Arc::clone(&core)));
        let node =
            RunningNode::start(core, &config.node, handler_name, sockets.http, on_new_certificate)?;
        let admitting = Arc::clone(&connections);
        let admit = move |socket| admitting.admit(socket);
        let at_stop = if handed { AtStop::Leave } else { AtStop::Refuse };
        let acceptor =
            Acceptor::start("pipe", listener, at_stop, admit).map_err(StartError::Thread)?;
        node.view.watch(acceptor.accepts());
        Ok(Self { node, pipe_address, acceptor, connections, stopped: false })
    }

    /// Sends a request to a client, by its certificate name or its address, and waits for the
    /// reply. If the client is not connected, waits for it as configured. The reply may report that
    /// the client's handler failed: see [`Reply::raise_for_exception`].
    pub fn request(&self, client: &str, event: &mut Event) -> Result<Reply, RequestError> {
        self.node.request(Peer::Client(client), event)
    }

    /// The address on which pipes are accepted, with the real port if port 0 was configured.
    pub fn pipe_address(&self) -> SocketAddr {
        self.pipe_address
    }

    /// How often a machine has replaced another with the same key.
    pub fn duplicate_identity_takeovers(&self) -> u64 {
        self.connections.duplicate_identity_takeovers()
    }

    /// Watchdog check; see [`Client::is_alive`](super::Client::is_alive).
    pub(crate) fn is_alive(&self) -> bool {
        self.acceptor.is_alive() && self.node.is_responsive()
    }

    /// Stops the server: accepts nothing new, finishes requests in flight for at most `drain`, and
    /// closes the pipes.
    pub fn stop(mut self, drain: Duration) {
        self.shut(drain);
    }

    fn shut(&mut self, drain: Duration) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.acceptor.stop();
            self.node.stop(drain);
            self.connections.wait_closed(Instant::now() + CLOSE_TIMEOUT);
            self.node.finish();
        }
    }
}

impl Builder<ServerConfig> {
    /// Binds both ports and starts serving.
    pub fn start(self) -> Result<Server, StartError> {
        self.config.check().map_err(StartError::Config)?;
        Server::launch(self)
    }
}

impl Deref for Server {
    type Target = RunningNode;

    fn deref(&self) -> &RunningNode {
        &self.node
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}

fn listen(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = bind_tcp(address)?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::ca::{self, Order};
    use crate::config::IdentityFiles;
    use crate::handler::Router;

    /// A lock that is never released blocks every request: the watchdog must not get a sign of
    /// life.
    #[test]
    fn a_node_with_a_lock_that_is_held_for_ever_gives_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        ca::init(dir.path(), 10, UnixTime::now()).unwrap();
        let (name, alternatives) = ("localhost".parse().unwrap(), Vec::new());
        let order = Order { name, role: Role::Server, alternatives, days: 10 };
        ca::issue(dir.path(), &order, UnixTime::now()).unwrap();
        let mut config = ServerConfig::new(IdentityFiles::issued(dir.path(), "localhost"));
        let free = ([127, 0, 0, 1], 0).into();
        (config.pipe_bind, config.node.http_bind) = (free, Bind::Tcp(free));
        let server = Server::builder(config).handler(Router::new()).start().unwrap();
        assert!(server.is_alive());

        let (say, heard) = crossbeam_channel::bounded(1);
        let held = server.node.core.registry.entries.lock();
        thread::scope(|scope| {
            scope.spawn(|| say.send(server.is_alive()).unwrap());
            assert!(
                heard.recv_timeout(Duration::from_millis(200)).is_err(),
                "it says that it lives"
            );
            drop(held);
            assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok(true));
        });
    }
}
