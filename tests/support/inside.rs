//! Nodes inside the test process, for handlers that a test controls directly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use restpipe::config::{Bind, ClientConfig, Environment, ServerConfig};
use restpipe::handler::Handler;
use restpipe::node::{Client, Server};

use super::{Answer, Identities, PATIENCE, Setup, ask, client, server};

/// A node on threads of this process. Dropping it stops it without waiting for requests in flight.
pub struct Inside {
    running: Option<Running>,
    http: SocketAddr,
    pipe: Option<SocketAddr>,
}

enum Running {
    Server(Server),
    Client(Client),
}

impl Setup {
    /// Starts a server with this handler in this process.
    pub fn serve(&self, handler: impl Handler + 'static) -> Inside {
        let (config, warnings) = ServerConfig::from_environment(&self.environment()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let server = Server::start(&config, Arc::new(handler)).unwrap();
        let (http, pipe) = (tcp(server.http_address()), Some(server.pipe_address()));
        Inside { running: Some(Running::Server(server)), http, pipe }
    }

    /// Starts a client with this handler in this process.
    pub fn dial(&self, handler: impl Handler + 'static) -> Inside {
        let (config, warnings) = ClientConfig::from_environment(&self.environment()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let client = Client::start(&config, Arc::new(handler)).unwrap();
        let http = tcp(client.http_address());
        Inside { running: Some(Running::Client(client)), http, pipe: None }
    }

    fn environment(&self) -> Environment {
        Environment::from_pairs(self.env.clone())
    }
}

fn tcp(bind: &Bind) -> SocketAddr {
    let Bind::Tcp(address) = bind else { panic!("{bind} is no TCP address") };
    *address
}

impl Inside {
    /// The local HTTP port.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The pipe port (server only).
    pub fn pipe(&self) -> SocketAddr {
        self.pipe.unwrap()
    }

    /// `GET` on the local port.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Sends any request to the local port, on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.http, method, path, headers, body)
    }

    /// Stops it as the programs do on a signal.
    pub fn stop(mut self, drain: Duration) {
        self.end(drain);
    }

    fn end(&mut self, drain: Duration) {
        match self.running.take() {
            Some(Running::Server(server)) => server.stop(drain),
            Some(Running::Client(client)) => client.stop(drain),
            None => {}
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// A server and its client `client-1` in this process, connected.
pub struct Pair {
    pub server: Inside,
    pub client: Inside,
}

impl Pair {
    /// Starts both with a handler from `handler`; `change` receives the role and changes the settings.
    pub fn new<H: Handler + 'static>(
        handler: impl Fn() -> H,
        change: impl Fn(&str, Setup) -> Setup,
    ) -> Self {
        let identities = Identities::new(&["client-1"]);
        let server = change("server", server(&identities)).serve(handler());
        let client = client(&identities, "client-1", server.pipe());
        let client = change("client", client).dial(handler());
        let pair = Self { server, client };
        // Any answer means that they are connected.
        for (asker, peer) in pair.both() {
            let answer = asker.get(&format!("{peer}/are-you-there"));
            assert_ne!(answer.status, 503, "{answer:?}");
        }
        pair
    }

    /// Each node, and the path prefix of its peer.
    pub fn both(&self) -> [(&Inside, &str); 2] {
        [(&self.client, "/server"), (&self.server, "/client/localhost")]
    }
}

/// Holds handlers back. Dropping it releases all of them.
pub struct Gate {
    entered: Receiver<()>,
    _hold: Sender<()>,
}

/// A handler's side of a [`Gate`].
#[derive(Clone)]
pub struct Door {
    enter: Sender<()>,
    held: Receiver<()>,
}

impl Gate {
    pub fn new() -> (Self, Door) {
        let (enter, entered) = unbounded();
        let (hold, held) = bounded(0);
        (Self { entered, _hold: hold }, Door { enter, held })
    }

    /// Waits until another handler has arrived.
    pub fn wait(&self) {
        self.entered.recv_timeout(PATIENCE).expect("no handler was called");
    }
}

impl Door {
    /// Called by a handler: reports its arrival and waits until the gate is dropped.
    pub fn pass(&self) {
        // A gate that was dropped already counts as open.
        let _ = self.enter.send(());
        let _ = self.held.recv_timeout(PATIENCE);
    }
}

/// How long something took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
