//! The server: accepts pipes, checks who they are, and keeps the newest of each name.

mod connections;
mod duplicate_keys;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::renewal::Renewal;
use super::{Builder, CLOSE_TIMEOUT, Core, StartError};
use crate::config::{Bind, ServerConfig};
use crate::event::pipe::{Patient, Peer, Pipe, RequestError};
use crate::event::{Event, Reply};
use crate::handler::{Handler, Role};
use crate::net::accept::{Acceptor, BACKLOG, Bound};
use connections::Connections;

/// A running server. Dropping it stops it without finishing what is in flight.
pub struct Server {
    core: Core,
    pipe_address: SocketAddr,
    acceptor: Acceptor,
    connections: Arc<Connections>,
    renewal: Renewal,
    connection_wait: Duration,
    stopped: bool,
}

impl Server {
    /// Binds both ports and serves from then on: [`Server::builder`] in its shortest form.
    pub fn start(config: &ServerConfig, handler: Arc<dyn Handler>) -> Result<Self, StartError> {
        Self::builder(config.clone()).shared_handler(handler).start()
    }

    /// A server of this configuration, before it is started.
    pub fn builder(config: ServerConfig) -> Builder<ServerConfig> {
        Builder::new(config)
    }

    pub(super) fn launch(builder: Builder<ServerConfig>) -> Result<Self, StartError> {
        let Builder { config, handler, handler_name, listeners, sockets } = builder;
        let (listener, pipe_address, handed) = match sockets.pipe {
            Some(Bound { socket, address: Bind::Tcp(address), .. }) => (socket, address, true),
            _ => {
                let (socket, address) = listen(config.pipe_bind)
                    .map_err(|error| StartError::Pipe(config.pipe_bind, error))?;
                (socket, address, false)
            }
        };
        let answering = (handler, handler_name);
        let core = Core::start(Role::Server, &config.node, answering, listeners, sockets.http)?;
        let connections = Arc::new(Connections::new(&core, &config.node));
        let admitting = Arc::clone(&connections);
        let admit = move |socket| admitting.admit(socket);
        let acceptor =
            Acceptor::start_bound("pipe", listener, handed, admit).map_err(StartError::Thread)?;
        core.view.watch(acceptor.accepts());
        // Clients learn of a new certificate when they connect the next time.
        let renewal = core.keep_up(Box::new(|| ()))?;
        let connection_wait = config.node.connection_wait;
        let stopped = false;
        Ok(Self { core, pipe_address, acceptor, connections, renewal, connection_wait, stopped })
    }

    /// Asks a client, by its certificate's name or its address, and waits for its reply. A client that
    /// is away is waited for as the configuration says. A reply may say that the client's handler
    /// failed: see [`Reply::raise_for_exception`].
    pub fn request(&self, client: &str, event: &mut Event) -> Result<Reply, RequestError> {
        self.core.requests.request(Peer::Client(client), event, self.connection_wait, &Patient)
    }

    /// The way to ask clients, to hand to other parts of a program. It outlives the server, and says
    /// then that that is stopping.
    pub fn pipe(&self) -> Arc<dyn Pipe> {
        Arc::clone(&self.core.requests) as _
    }

    /// Where pipes are accepted: the real port, also where port 0 was asked for.
    pub fn pipe_address(&self) -> SocketAddr {
        self.pipe_address
    }

    /// Where the local HTTP port listens.
    pub fn http_address(&self) -> &Bind {
        self.core.http_address()
    }

    /// Where the ports listen that lead to targets of the other side, in the configuration's order.
    pub fn tcp_addresses(&self) -> Vec<Bind> {
        self.core.tcp_addresses()
    }

    /// Reads the files of the identity and of the rules anew, soon.
    pub fn reload(&self) {
        drop(self.renewal.reload());
    }

    /// As [`Server::reload`], and waits until that is done, for at most this long.
    pub fn reload_within(&self, most: Duration) {
        // Nothing is ever sent: this is the end of the reading.
        let _ = self.renewal.reload().recv_timeout(most);
    }

    /// How often one machine has taken the place of another that has the same key.
    pub fn duplicate_identity_takeovers(&self) -> u64 {
        self.connections.duplicate_identity_takeovers()
    }

    /// Whether it serves, for a watchdog; see [`Client::is_alive`](super::Client::is_alive).
    pub(crate) fn is_alive(&self) -> bool {
        self.acceptor.is_alive() && self.core.is_alive()
    }

    /// Stops: takes nothing new, finishes what is in flight for at most this long, and closes the
    /// pipes.
    pub fn stop(mut self, drain: Duration) {
        self.shut(drain);
    }

    fn shut(&mut self, drain: Duration) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.acceptor.stop();
            self.core.stop(drain);
            self.connections.wait_closed(Instant::now() + CLOSE_TIMEOUT);
            self.core.finish();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}

fn listen(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
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

    /// A lock that is never given back stops every request: nobody may say then that the node lives.
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
        let held = server.core.registry.lock();
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
