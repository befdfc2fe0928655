//! RestPipe keeps systems connected: N clients each hold one mutually authenticated TLS connection
//! to a server, and either side sends requests to the other over it, as ordinary HTTP requests to a
//! local port or from a program with this library.
//!
//! Everything is synchronous: plain functions and threads, no runtime. Input from peers and callers
//! never causes an exit or a panic, and every thread has a name.
//!
//! # A server, and a client that asks it
//!
//! Both sides handle events and both send requests; they differ only in which one dials. A handler
//! is a [`Router`] of closures, named by verb and noun (`GET log` is `get_log`), or any
//! [`Handler`]. A body may be a stream, which is read while it is transferred, in either direction.
//!
//! ```
//! use std::io::Read;
//!
//! use restpipe::{
//!     Body, Client, ClientConfig, Event, IdentityFiles, Reply, Router, Server, ServerConfig, Verb,
//! };
//! use serde_json::json;
//!
//! # let dir = tempfile::tempdir()?;
//! # let pki = dir.path();
//! # {
//! #     use restpipe::ca::{self, Ca, Order};
//! #     use restpipe::event::peer::Role;
//! #     let now = rustls::pki_types::UnixTime::now();
//! #     ca::init(pki, 30, now)?;
//! #     for (name, role) in [("localhost", Role::Server), ("web1", Role::Client)] {
//! #         let order = Order { name: name.parse()?, role, alternatives: vec![], days: 30 };
//! #         Ca::new(pki).issue(&order, now)?;
//! #     }
//! # }
//! // `pki` is a directory with what `rp_ca` makes. All else has the documented defaults.
//! let mut config = ServerConfig::new(IdentityFiles::issued(pki, "localhost"));
//! config.pipe_bind = ([127, 0, 0, 1], 0).into();
//! # config.node.http_bind = restpipe::Bind::Tcp(([127, 0, 0, 1], 0).into());
//! # std::fs::write(pki.join("today.log"), "all is well")?;
//! # let logs = pki.to_owned();
//! let handler = Router::new()
//!     .on("get_log", move |_, _| {
//!         let file = std::fs::File::open(logs.join("today.log"))?;
//!         let length = file.metadata()?.len();
//!         Ok(Reply::new("text/plain", Body::stream(file, Some(length))))
//!     })
//!     .on("post_sum", |context, event| {
//!         let numbers: Vec<i64> = serde_json::from_value(event.json()?)?;
//!         Ok(json!({ "sum": numbers.iter().sum::<i64>(), "for": context.peer.name }))
//!     });
//! let server = Server::builder(config).handler(handler).start()?;
//!
//! let mut config = ClientConfig::new(IdentityFiles::issued(pki, "web1"), "localhost");
//! config.target_port = server.pipe_address().port();
//! # config.node.http_bind = restpipe::Bind::Tcp(([127, 0, 0, 1], 0).into());
//! let client = Client::builder(config).start()?;
//!
//! // `raise_for_exception` makes an error of a handler that failed.
//! let mut reply = client.request(&mut Event::new(Verb::Get, "log")?)?.raise_for_exception()?;
//! let mut text = String::new();
//! reply.body.read_to_string(&mut text)?;
//! assert_eq!(text, "all is well");
//!
//! let mut event = Event::new(Verb::Post, "sum")?;
//! event.body = Body::from("[1, 2, 39]");
//! let mut reply = client.request(&mut event)?.raise_for_exception()?;
//! assert_eq!(reply.body.gather(100)?, br#"{"sum": 42, "for": "web1"}"#);
//!
//! // And the other way round: this client handles nothing, so that is what the server is told.
//! let reply = server.request("web1", &mut Event::new(Verb::Get, "time")?)?;
//! assert_eq!(reply.raise_for_exception().unwrap_err().to_string(), "unhandled (404): ");
//!
//! // Finishes what is in flight, for two seconds at most.
//! client.stop(std::time::Duration::from_secs(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`pipe`](node::RunningNode::pipe) of either returns a handle with which other parts of a program
//! send requests.
//!
//! # Connection events
//!
//! ```
//! use restpipe::{ClientConfig, Client, ConnectionEvent, IdentityFiles};
//!
//! # fn start(config: ClientConfig) -> Result<(), restpipe::StartError> {
//! let client = Client::builder(config)
//!     .on_start(|peer| println!("{} stands, from {}", peer.name, peer.address))
//!     .on_stop(|peer, why| println!("{} has ended: {why}", peer.name))
//!     .on_event(|event| match event {
//!         ConnectionEvent::ConnectFail { attempts, reason, .. } if *attempts > 10 => {
//!             eprintln!("{attempts} attempts in a row have failed, the last one: {reason}");
//!         }
//!         _ => {}
//!     })
//!     .start()?;
//! # Ok(())
//! # }
//! ```
//!
//! The callbacks run one after another on their own thread, in the order of events; see
//! [`Builder`](node::Builder). A [`ConnectionEvent`] reports which peers connect and disconnect,
//! and how often connecting has failed.
//!
//! # Callers by HTTP
//!
//! A program that uses the local HTTP port with its own HTTP client converts the response into its
//! body or the remote failure with [`raise_for_exception`].
//!
//! # Whole programs
//!
//! A program with its own handlers, configured by the environment like `rp_client_start`, is a
//! `main` of a few lines: see [`run`]. [`handler`] describes what a handler gets and returns,
//! [`config`] the settings. The [`guide`] is for operators.

pub mod ca;
pub mod config;
pub mod event;
mod fs;
pub mod guide;
pub mod handler;
pub mod http;
mod http1;
pub mod identity;
pub mod lifecycle;
mod link;
mod metrics;
mod net;
pub mod node;
mod process;
pub mod remoted;
pub mod rules;
pub mod run;
mod sync;
mod tcp_tunnel;
mod wire;

pub use config::{Bind, ClientConfig, IdentityFiles, Proxy, ServerConfig};
pub use event::peer::PeerIdentity;
pub use event::pipe::{Pipe, RequestError};
pub use event::{Body, Event, RemoteFailure, Reply, Verb, peer, pipe, raise_for_exception};
pub use handler::{Context, Failure, Handler, Router};
pub use lifecycle::ConnectionEvent;
pub use node::{Client, Server, StartError};
